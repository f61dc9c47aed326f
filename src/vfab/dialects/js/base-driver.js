'use strict';
// What `require('./base-driver')` gives where a driver of seed 003 has no file of that name beside it.

const { EventEmitter } = require('events');

const ports = { open: null, close: null, publish: null, log: null };

/**
 * A driver of one device. Its TCP connection is opened by vfab's broker, which keeps it over the driver's death.
 *
 * Events: 'data' (Buffer), 'close', 'error' (only where somebody listens).
 */
class BaseDriver extends EventEmitter {
  /** @param {object} options connection settings (host, port, …), name, deviceId */
  constructor(options = {}) {
    super();
    this.options = { ...options };
    this.config = this.options;
    this.name = options.name;
    this.deviceId = options.deviceId;
    this.host = options.host;
    this.port = options.port;
    this.socket = null;
    this.connected = false;
    this.log = ports.log;
    this.logger = ports.log;
  }

  /** Reach the device; override it to speak to the device after `await super.connect()`. */
  async connect() {
    await this.open();
    return true;
  }

  /** Let go of the device. Calling it twice is fine. */
  async disconnect() {
    await this.close();
  }

  /** A connection to `host` and `port`, by default those of the options, as a net.Socket. */
  async open(host = this.host, port = this.port) {
    await this.close();
    const socket = await ports.open(host, port);
    this.socket = socket;
    this.connected = true;
    socket.setNoDelay(true);
    socket.on('data', (data) => this.emit('data', data));
    socket.on('error', (error) => {
      if (this.listenerCount('error') > 0) this.emit('error', error);
    });
    socket.on('close', () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.connected = false;
      ports.close(host, port).catch(() => {});
      this.emit('close');
    });
    return socket;
  }

  /** Close what `open` opened. */
  async close() {
    const socket = this.socket;
    if (socket === null) return;
    const closed = new Promise((resolve) => { this.once('close', resolve); });
    socket.destroy();
    await closed;
  }

  /** Send text or bytes; done when the system has taken them. */
  send(data) {
    return new Promise((resolve, reject) => {
      if (this.socket === null) {
        reject(Object.assign(new Error('there is no connection to the device'), { code: 'ENOTCONN' }));
        return;
      }
      this.socket.write(data, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Tell vfab's listeners that something happened. */
  publish(kind, data = {}) {
    ports.publish(String(kind), data);
  }
}

module.exports = BaseDriver;
Object.defineProperty(BaseDriver, Symbol.for('vfab.ports'), { value: ports });
