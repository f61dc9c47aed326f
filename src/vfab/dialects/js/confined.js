'use strict';
// node confined.js CONTROL_FD DRIVER_FILE SETTINGS: bridge.js, for a Node that was started within bwrap.
//
// Before it loads the driver's file it tries what must be refused, and looks at what it is and sees. It tells that in one
// line of JSON; the host judges, and answers with a line of JSON, variables to set, once the file may be loaded.

const { spawnSync } = require('child_process');
const fs = require('fs');
const net = require('net');

const LINE_MAX = 65536;
const control = Number(process.argv[2]);
const { folder, start, network } = JSON.parse(process.argv[4]);

/** The code of the error with which the system refuses `work`; '' where it does not. */
function refusal(work) {
  try {
    work();
    return '';
  } catch (error) {
    return String(error.code ?? error);
  }
}

function setAgain(path) {
  fs.chmodSync(path, fs.statSync(path).mode & 0o7777);
}

function startProgram() {
  const { error } = spawnSync(process.execPath, ['--version']);
  if (error) throw error;
}

/** As `refusal`, for a connection to this machine. */
function refusalToConnect() {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port: 9 });
    socket.on('error', (error) => resolve(String(error.code)));
    socket.on('connect', () => resolve(''));
  });
}

async function tried() {
  return {
    'write into the root folder': refusal(() => fs.mkdirSync('/vfab')),
    'write beside the driver': refusal(() => fs.accessSync(folder, fs.constants.W_OK)),
    'change the mode of a device': refusal(() => setAgain('/dev/null')),
    'open a file of the system': refusal(() => fs.closeSync(fs.openSync('/etc/passwd'))),
    'make a call that is filtered': refusal(() => fs.fchmodSync(control, 0o777)),
    'start a program': start ? '' : refusal(startProgram),
    'make a socket': network ? '' : await refusalToConnect(),
  };
}

/** The fields of `/proc/self/status`. */
function status() {
  const lines = fs.readFileSync('/proc/self/status', 'utf8').split('\n').map((line) => line.split(':'));
  return Object.fromEntries(lines.filter((parts) => parts.length === 2).map(([name, value]) => [name, value.trim()]));
}

function readLine() {
  const byte = Buffer.alloc(1);
  let line = '';
  while (line.length < LINE_MAX && fs.readSync(control, byte, 0, 1, null) === 1) {
    if (byte[0] === 10) return line;
    line += byte.toString('latin1');
  }
  return process.exit(0); // the host is gone, or wants no more of this
}

async function main() {
  const root = fs.statSync('/', { bigint: true });
  const told = {
    root: [String(root.dev), String(root.ino)],
    top: fs.readdirSync('/'),
    processes: fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)),
    namespaces: Object.fromEntries(['user', 'pid', 'mnt', 'ipc', 'uts', 'net'].map(
      (name) => [name, fs.readlinkSync(`/proc/self/ns/${name}`)],
    )),
    status: status(),
    refused: await tried(),
  };
  fs.writeSync(control, `${JSON.stringify(told)}\n`);
  Object.assign(process.env, JSON.parse(readLine()));
  require('./bridge');
}

main();
