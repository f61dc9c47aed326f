'use strict';
// node bridge.js CONTROL_FD DRIVER_FILE: be one driver of seed 003 for the Python process at the other end.
//
// CONTROL_FD is a Unix socket that speaks the host wire. Descriptors of links come by Node's own IPC channel, the only
// way by which Node takes any. The control socket's end is this process's end.

const fs = require('fs');
const Module = require('module');
const net = require('net');
const path = require('path');
const { Frames, frame } = require('./wire');
const OurBase = require('./base-driver');

const [CALL, REPLY, FAILURE, CANCEL, EVENT, LOG] = [1, 2, 3, 4, 6, 7];
const EXECUTORS = ['executeCommand', 'sendCommand', 'execute', 'command'];
const CODES = {
  ECONNREFUSED: 'connection_failed', EHOSTUNREACH: 'connection_failed', ENETUNREACH: 'connection_failed',
  ENOTFOUND: 'connection_failed', EAI_AGAIN: 'connection_failed', ECONNRESET: 'link_lost', EPIPE: 'link_lost',
  ENOTCONN: 'link_lost', ERR_STREAM_DESTROYED: 'link_lost', ERR_STREAM_WRITE_AFTER_END: 'link_lost',
  ETIMEDOUT: 'timeout', ESOCKETTIMEDOUT: 'timeout', EACCES: 'permission_refused', EPERM: 'permission_refused',
  MODULE_NOT_FOUND: 'dependency_missing',
};

const control = new net.Socket({ fd: Number(process.argv[2]), readable: true, writable: true });
const running = new Map(); // calls of the other end, by id: how to cancel each
const asked = new Map(); // calls of ours, by id
const arrived = new Map(); // sockets, or who waits for them, by token
let lastId = 0;
let DriverClass = null;
let driver = null;

function say(message) {
  control.write(frame(message));
}

function ask(method, ...args) {
  lastId += 1;
  const id = lastId;
  return new Promise((resolve, reject) => {
    asked.set(id, { resolve, reject });
    say([CALL, id, method, args]);
  });
}

// -- errors -----------------------------------------------------------------------------------------------------------

/** Whether the author wrote `throw` for this error, rather than have it happen. */
function isMeant(error) {
  const place = /\(?((?:\/|[A-Z]:\\)[^\n()]*):(\d+):\d+\)?/.exec(String(error.stack));
  if (place === null) return false;
  try {
    return /\bthrow\b/.test(fs.readFileSync(place[1], 'utf8').split('\n')[Number(place[2]) - 1]);
  } catch {
    return false;
  }
}

function codeOf(error) {
  if (Object.hasOwn(CODES, error.code)) return CODES[error.code];
  if (error.name === 'TimeoutError') return 'timeout';
  if ((error instanceof RangeError || error instanceof TypeError) && isMeant(error)) return 'bad_configuration';
  return 'driver_failed';
}

/** `thrown`, whatever it is, as `DriverError.to_wire()`. */
function wireError(thrown, method) {
  if (thrown && thrown.vfab) return thrown.vfab;
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const code = codeOf(error);
  const where = code === 'driver_failed' ? `${error.name} in ${method}` : method;
  const context = { dialect: 'js_driver', method, stack: String(error.stack).slice(0, 4000) };
  return { error: `${where}: ${error.message}`.slice(0, 4000), code, context, original_error: error.name };
}

function refusal(code, text, context) {
  const error = new Error(text);
  error.vfab = { error: text, code, context: { dialect: 'js_driver', ...context } };
  return error;
}

// -- calling the author's class ---------------------------------------------------------------------------------------

/** The names of a function's parameters; null where one is a pattern or a rest. */
function parametersOf(fn) {
  const text = Function.prototype.toString.call(fn).replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, '');
  const list = /^[^(]*\(([^)]*)/.exec(text);
  const parts = list === null ? [] : list[1].split(',').map((part) => part.trim()).filter((part) => part !== '');
  const names = parts.map((part) => (/^[A-Za-z_$][\w$]*/.exec(part) || [null])[0]);
  return names.includes(null) ? null : names;
}

/** How to call `fn`, for `named` arguments: by position, or as one object where it takes one. */
function argumentsFor(fn, method, args, named) {
  const keys = Object.keys(named);
  if (keys.length === 0) return args;
  const names = parametersOf(fn);
  if (names === null || (names.length === 1 && !keys.includes(names[0])
    && /^(params|parameters|args|options|opts|settings|config|data)$/.test(names[0]))) return [...args, named];
  const unknown = keys.find((key) => !names.includes(key));
  if (unknown !== undefined) {
    throw refusal('bad_configuration', `${method} has no parameter ${unknown}`, { method, known: names });
  }
  return names.map((name, index) => (index < args.length ? args[index] : named[name]));
}

function authors(method, command, args, named) {
  const fn = driver[method];
  if (typeof fn === 'function') return fn.apply(driver, argumentsFor(fn, method, args, named));
  const executor = EXECUTORS.find((name) => typeof driver[name] === 'function');
  if (executor === undefined) throw refusal('unknown_command', `the driver has no method ${method}`, { command });
  return driver[executor](command, args.length > 0 ? args[0] : named);
}

let saysConnected = false;

const own = {
  $new(options) {
    driver = new DriverClass(options);
  },
  $call: (method, command, args, named) => authors(method, command, args, named),
  async $life(method) {
    const answer = typeof driver?.[method] === 'function' ? await driver[method]() : null;
    if (method === 'connect') saysConnected = driver?.connected === true;
    return answer;
  },
  $connected() {
    if (typeof driver?.isConnected === 'function') return driver.isConnected();
    // a connect of the author's own may leave the base's `connected` alone: then that it succeeded is all that is known
    return driver?.isConnected ?? (saysConnected || driver?.connected ? driver.connected : undefined);
  },
};

async function take(id, method, args = []) {
  const what = method === '$call' || method === '$life' ? args[0] : method === '$new' ? 'constructor' : method;
  const cancelled = new Promise((_, reject) => {
    running.set(id, () => reject(refusal('cancelled', 'the operation was cancelled', { method: what })));
  });
  let answer;
  try {
    answer = frame([REPLY, id, await Promise.race([own[method](...args), cancelled])]);
  } catch (error) {
    answer = frame([FAILURE, id, wireError(error, what)]);
  }
  running.delete(id);
  control.write(answer);
}

function cancel(id) {
  const stop = running.get(id);
  if (stop === undefined) return;
  stop();
  try {
    Promise.resolve(driver?.abort?.()).catch((error) => console.error('abort failed:', error));
  } catch (error) {
    console.error('abort failed:', error);
  }
}

function hear([tag, id, ...rest]) {
  if (tag === CALL) take(id, ...rest);
  else if (tag === CANCEL) cancel(id);
  else if (asked.has(id)) {
    const { resolve, reject } = asked.get(id);
    asked.delete(id);
    if (tag === REPLY) resolve(rest[0]);
    else reject(Object.assign(new Error(rest[0].error), { vfab: rest[0] }));
  }
}

// -- what the driver may ask for --------------------------------------------------------------------------------------

const ports = OurBase[Symbol.for('vfab.ports')];
ports.open = async (host, port) => {
  const token = await ask('open_link', host ?? null, port ?? null);
  if (arrived.has(token)) {
    const socket = arrived.get(token);
    arrived.delete(token);
    return socket;
  }
  return new Promise((resolve) => { arrived.set(token, resolve); });
};
ports.close = (host, port) => ask('close_link', host ?? null, port ?? null);
ports.publish = (kind, data) => say([EVENT, kind, typeof data === 'object' && data ? data : { value: data }, Date.now() / 1000]);
const level = (number) => (...words) => say([LOG, number, 'node', require('util').format(...words), Date.now() / 1000]);
ports.log = Object.assign(level(20), { debug: level(10), info: level(20), warn: level(30), error: level(40) });

process.on('message', ({ token }, socket) => {
  const waiting = arrived.get(token);
  if (typeof waiting === 'function') {
    arrived.delete(token);
    waiting(socket);
  } else arrived.set(token, socket);
});

const resolveFilename = Module._resolveFilename;
Module._resolveFilename = function resolve(request, ...rest) {
  try {
    return resolveFilename.call(this, request, ...rest);
  } catch (error) {
    if (/^\.{1,2}\/(?:.*\/)?base-driver(?:\.c?js)?$/.test(request)) return require.resolve('./base-driver');
    throw error;
  }
};

// -- the life of this process -----------------------------------------------------------------------------------------

function handshake(fields) {
  control.write(`vfab-host 1 ${JSON.stringify({ pid: process.pid, ...fields })}\n`);
}

const frames = new Frames();
control.on('data', (data) => {
  for (const message of frames.receive(data)) hear(message);
});
control.on('close', () => process.exit(0));
control.on('error', () => process.exit(0));

const file = path.resolve(process.argv[3]);
try {
  DriverClass = require(file);
  if (typeof DriverClass !== 'function') {
    throw refusal('driver_failed', `${path.basename(file)} must export a class`, { file });
  }
  handshake({ driver: DriverClass.name });
} catch (error) {
  handshake({ error: { type: '', driver: '', remedy: '', retryable: false, ...wireError(error, 'loading the file') } });
  control.end();
}
