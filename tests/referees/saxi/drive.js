// saxi's EBB class draws on the board at ADDRESS (a terminal, or tcp://HOST:PORT) and prints what it was told as JSON.
// Its serial port library needs a binary that npm does not ship, so the class is given a port made of node's streams.
"use strict";
const fs = require("fs");
const net = require("net");
const path = require("path");
const tty = require("tty");
const { Readable, Writable } = require("stream");

const [address, modules] = process.argv.slice(2);
const saxi = path.resolve(modules, "saxi", "dist", "server");
const { EBB } = require(path.join(saxi, "ebb.js"));
const { Device, AxidrawFast, plan } = require(path.join(saxi, "planning.js"));

async function open() {
  if (address.startsWith("tcp://")) {
    const [host, port] = address.slice("tcp://".length).split(":");
    const socket = net.connect(Number(port), host);
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return { readable: Readable.toWeb(socket), writable: Writable.toWeb(socket) };
  }
  const input = new tty.ReadStream(fs.openSync(address, fs.constants.O_RDWR | fs.constants.O_NOCTTY));
  const output = new tty.WriteStream(fs.openSync(address, fs.constants.O_RDWR | fs.constants.O_NOCTTY));
  return { readable: Readable.toWeb(input), writable: Writable.toWeb(output) };
}

async function main() {
  const port = await open();
  const ebb = new EBB(port);
  const mm = Device.Axidraw.stepsPerMm;
  const paths = [
    [[10, 10], [60, 10], [60, 40], [10, 40], [10, 10]],
    [[20, 20], [35, 32.5]],
    [[40, 15], [45, 20], [41, 27], [52, 31]],
  ].map((points) => points.map(([x, y]) => ({ x: x * mm, y: y * mm })));
  const said = {
    version: await ebb.firmwareVersionNumber(),
    supportsLM: await ebb.supportsLM(),
    supportsSR: await ebb.supportsSR(),
    powered: await ebb.areSteppersPowered(),
    button: await ebb.queryButton(),
    refused: await ebb.command("BB").then(() => "", (error) => error.message),
  };
  await ebb.executePlan(plan(paths, AxidrawFast), 1);
  said.steps = await ebb.queryM("QS");
  process.stdout.write(JSON.stringify(said) + "\n", () => process.exit(0));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
