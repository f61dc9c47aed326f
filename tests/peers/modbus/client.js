"use strict";
// A Modbus TCP client: reads and writes the device at the port that it is given, prints what it found as JSON.
const ModbusRTU = require("modbus-serial");

async function main(port) {
  const client = new ModbusRTU();
  await client.connectTCP("127.0.0.1", { port });
  client.setID(1);
  client.setTimeout(5000);
  const found = {};
  await client.writeRegisters(10, [1, 2, 65535]);
  await client.writeRegister(13, 7);
  await client.writeCoils(0, [true, false, true]);
  await client.writeCoil(3, true);
  found.holding = (await client.readHoldingRegisters(10, 4)).data;
  found.input = (await client.readInputRegisters(5, 2)).data;
  found.coils = (await client.readCoils(0, 4)).data.slice(0, 4);
  found.discrete = (await client.readDiscreteInputs(0, 4)).data.slice(0, 4);
  await client.maskWriteRegister(13, 0, 5);
  found.masked = (await client.readHoldingRegisters(13, 1)).data;
  try {
    await client.readHoldingRegisters(999, 10);
  } catch (error) {
    found.refused = error.modbusCode;
  }
  console.log(JSON.stringify(found));
  client.close();
}

main(Number(process.argv[2])).catch((error) => {
  console.error(error);
  process.exit(1);
});
