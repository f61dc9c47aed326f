"use strict";
// A Modbus TCP server: one line of JSON says where; holding registers are kept, input registers are 1000 + address,
// coils are kept, discrete inputs are on where the address is even. Address 500 and above does not exist.
const { ServerTCP } = require("modbus-serial");

const holding = new Array(500).fill(0);
const coils = new Array(500).fill(false);

function known(address) {
  if (address >= 500) {
    const error = new Error("illegal address");
    error.modbusErrorCode = 2;
    throw error;
  }
  return address;
}

const vector = {
  getInputRegister: (address) => 1000 + known(address),
  getHoldingRegister: (address) => holding[known(address)],
  getCoil: (address) => coils[known(address)],
  getDiscreteInput: (address) => known(address) % 2 === 0,
  setRegister: (address, value) => { holding[known(address)] = value; },
  setCoil: (address, value) => { coils[known(address)] = value; },
};

// modbus-serial takes port 0 for 502, which only root may have, and only once: a free one is looked for first.
const free = require("net").createServer();
free.listen(0, "127.0.0.1", () => {
  const { port } = free.address();
  free.close(() => {
    const server = new ServerTCP(vector, { host: "127.0.0.1", port, unitID: 3 });
    server.on("initialized", () => {
      console.log(JSON.stringify({ port }));
    });
    server.on("socketError", () => {});
  });
});
