"use strict";
// A Modbus RTU client on the serial line that it is given: asks for a function that the device does not have, then for
// others, and prints what it found as JSON. modbus-serial frames; it gets a serial port of Node's own means, because the package
// "serialport" is a compiled one. The line is raw already.
const { EventEmitter } = require("events");
const fs = require("fs");
const Module = require("module");
const tty = require("tty");

class SerialPort extends EventEmitter {
  constructor({ path }) {
    super();
    this.path = path;
    this.isOpen = false;
  }

  open(done) {
    this.fd = fs.openSync(this.path, fs.constants.O_RDWR | fs.constants.O_NOCTTY);
    new tty.ReadStream(this.fd).on("data", (data) => this.emit("data", data));
    this.isOpen = true;
    done();
  }

  write(data) {
    fs.writeSync(this.fd, data);
  }
}

const load = Module._load;
Module._load = (name, ...rest) => (name === "serialport" ? { SerialPort } : load(name, ...rest));
const ModbusRTU = require("modbus-serial");

async function refusal(asked) {
  try {
    await asked;
    return "answered";
  } catch (error) {
    return error.modbusCode ?? String(error);
  }
}

async function main(path) {
  const client = new ModbusRTU();
  await client.connectRTUBuffered(path, {});
  client.setID(1);
  client.setTimeout(30000);
  const found = {};
  found.server_id = await refusal(client.reportServerID(0, 0));
  await client.writeRegisters(10, [1, 2, 65535]);
  found.holding = (await client.readHoldingRegisters(10, 3)).data;
  found.beyond = await refusal(client.readHoldingRegisters(999, 10));
  found.identity = (await client.readDeviceIdentification(1, 0)).data;
  found.input = (await client.readInputRegisters(5, 2)).data;
  console.log(JSON.stringify(found));
  process.exit(0);
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
