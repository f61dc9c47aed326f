'use strict';
// The host wire (vfab/protocols/hostwire.py) in JavaScript: msgpack, frames, the handshake line. No dependencies.

const DEPTH_MAX = 64;
const FRAME_MAX = 16 << 20;
const BULK_MAX = 1 << 30;
const BULK_CODE = 1;

/** Bytes that grow. */
class Bytes {
  constructor() {
    this.buffer = Buffer.allocUnsafe(256);
    this.size = 0;
  }

  room(count) {
    if (this.size + count > this.buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.size + count));
      this.buffer.copy(larger, 0, 0, this.size);
      this.buffer = larger;
    }
    const at = this.size;
    this.size += count;
    return at;
  }

  head(code, width, value) {
    const at = this.room(1 + width);
    this.buffer[at] = code;
    if (width > 0) this.buffer.writeUIntBE(value, at + 1, width);
  }

  raw(data) {
    const at = this.room(data.length);
    data.copy(this.buffer, at);
  }
}

function encodeSized(out, size, fix, fixMax, codes) {
  if (size <= fixMax) out.head(fix | size, 0);
  else if (codes[0] && size < 0x100) out.head(codes[0], 1, size);
  else if (size < 0x10000) out.head(codes[1], 2, size);
  else out.head(codes[2], 4, size);
}

function encodeInteger(out, value) {
  if (value >= 0 && value < 0x80) out.head(value, 0);
  else if (value < 0 && value >= -32) out.head(value & 0xff, 0);
  else {
    const at = out.room(9);
    out.buffer[at] = value < 0 ? 0xd3 : 0xcf;
    if (value < 0) out.buffer.writeBigInt64BE(BigInt(value), at + 1);
    else out.buffer.writeBigUInt64BE(BigInt(value), at + 1);
  }
}

function encodeText(out, text) {
  const data = Buffer.from(text, 'utf8');
  encodeSized(out, data.length, 0xa0, 31, [0xd9, 0xda, 0xdb]);
  out.raw(data);
}

function encodeBigInt(out, value) {
  const fits = value >= -(2n ** 63n) && value < 2n ** 64n;
  if (!fits) encodeText(out, value.toString());
  else encodeInteger(out, value >= -32n && value < 128n ? Number(value) : value);
}

function encodeEntries(out, entries, depth) {
  encodeSized(out, entries.length, 0x80, 15, [0, 0xde, 0xdf]);
  for (const [key, value] of entries) {
    encodeText(out, String(key));
    encodeValue(out, value, depth + 1);
  }
}

function encodeObject(out, value, depth) {
  if (depth > DEPTH_MAX) throw new TypeError('this cannot be sent between processes: it is nested too deeply, or contains itself');
  if (value instanceof Uint8Array) {
    const data = Buffer.from(value.buffer, value.byteOffset, value.length);
    encodeSized(out, data.length, 0, -1, [0xc4, 0xc5, 0xc6]);
    out.raw(data);
  } else if (Array.isArray(value) || value instanceof Set || ArrayBuffer.isView(value)) {
    const items = value instanceof DataView ? [] : Array.from(value);
    encodeSized(out, items.length, 0x90, 15, [0, 0xdc, 0xdd]);
    for (const item of items) encodeValue(out, item, depth + 1);
  } else if (value instanceof Map) encodeEntries(out, Array.from(value), depth);
  else if (value instanceof Error) encodeText(out, String(value));
  else if (typeof value.toJSON === 'function') encodeValue(out, value.toJSON(), depth + 1);
  else encodeEntries(out, Object.entries(value).filter(([, item]) => typeof item !== 'function'), depth);
}

function encodeValue(out, value, depth = 0) {
  if (value === null || value === undefined) out.head(0xc0, 0);
  else if (value === false || value === true) out.head(value ? 0xc3 : 0xc2, 0);
  else if (typeof value === 'number') {
    if (Number.isSafeInteger(value) && !Object.is(value, -0)) encodeInteger(out, value);
    else {
      const at = out.room(9);
      out.buffer[at] = 0xcb;
      out.buffer.writeDoubleBE(value, at + 1);
    }
  } else if (typeof value === 'string') encodeText(out, value);
  else if (typeof value === 'bigint') encodeBigInt(out, value);
  else if (typeof value === 'object') encodeObject(out, value, depth);
  else encodeText(out, String(value));
}

/** `value` as msgpack. Objects of classes become what their properties are; functions in them are left out. */
function pack(value) {
  const out = new Bytes();
  encodeValue(out, value);
  return out.buffer.subarray(0, out.size);
}

/** Reads msgpack; extension values of type 1 point into `bulk`. */
class Unpacker {
  constructor(data, bulk) {
    this.data = data;
    this.bulk = bulk;
    this.at = 0;
  }

  take(count) {
    const at = this.at;
    if (at + count > this.data.length) throw new RangeError('msgpack ends too early');
    this.at += count;
    return at;
  }

  uint(width) {
    return this.data.readUIntBE(this.take(width), width);
  }

  big(value) {
    return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
  }

  text(size) {
    const at = this.take(size);
    return this.data.toString('utf8', at, at + size);
  }

  bytes(size) {
    const at = this.take(size);
    return Buffer.from(this.data.subarray(at, at + size));
  }

  list(size) {
    const items = [];
    for (let i = 0; i < size; i += 1) items.push(this.value());
    return items;
  }

  map(size) {
    const made = {};
    for (let i = 0; i < size; i += 1) {
      const key = String(this.value());
      // not made[key]: a key may be called __proto__
      Object.defineProperty(made, key, { value: this.value(), enumerable: true, writable: true, configurable: true });
    }
    return made;
  }

  ext(size) {
    const code = this.data.readInt8(this.take(1));
    const body = this.bytes(size);
    if (code !== BULK_CODE || size !== 8) throw new RangeError(`unknown extension type ${code}`);
    const offset = body.readUInt32LE(0);
    const end = offset + body.readUInt32LE(4);
    if (end > this.bulk.length) throw new RangeError('a bulk reference points outside of the bulk');
    return Buffer.from(this.bulk.subarray(offset, end));
  }

  value() {
    const code = this.data[this.take(1)];
    if (code < 0x80) return code;
    if (code < 0x90) return this.map(code & 15);
    if (code < 0xa0) return this.list(code & 15);
    if (code < 0xc0) return this.text(code & 31);
    if (code >= 0xe0) return code - 256;
    switch (code) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.bytes(this.uint(1 << (code - 0xc4)));
      case 0xc7: case 0xc8: case 0xc9: return this.ext(this.uint(1 << (code - 0xc7)));
      case 0xca: return this.data.readFloatBE(this.take(4));
      case 0xcb: return this.data.readDoubleBE(this.take(8));
      case 0xcc: case 0xcd: case 0xce: return this.uint(1 << (code - 0xcc));
      case 0xcf: return this.big(this.data.readBigUInt64BE(this.take(8)));
      case 0xd0: return this.data.readInt8(this.take(1));
      case 0xd1: return this.data.readInt16BE(this.take(2));
      case 0xd2: return this.data.readInt32BE(this.take(4));
      case 0xd3: return this.big(this.data.readBigInt64BE(this.take(8)));
      case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: return this.ext(1 << (code - 0xd4));
      case 0xd9: case 0xda: case 0xdb: return this.text(this.uint(1 << (code - 0xd9)));
      case 0xdc: case 0xdd: return this.list(this.uint(code === 0xdc ? 2 : 4));
      case 0xde: case 0xdf: return this.map(this.uint(code === 0xde ? 2 : 4));
      default: throw new RangeError(`byte ${code} is no msgpack`);
    }
  }
}

/** What the msgpack `data` says. */
function unpack(data, bulk = Buffer.alloc(0)) {
  const unpacker = new Unpacker(data, bulk);
  const value = unpacker.value();
  if (unpacker.at !== data.length) throw new RangeError('there is more after the msgpack value');
  return value;
}

/** The bytes to send for a message, `[tag, field, …]`. */
function frame(message) {
  const body = pack(message);
  if (body.length > FRAME_MAX) throw new RangeError(`a message of ${body.length} bytes is too large for one frame`);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(body.length, 0);
  return Buffer.concat([head, body]);
}

/** Cuts a byte stream into messages; how the bytes were cut on the way does not matter. */
class Frames {
  constructor() {
    this.parts = [];
    this.size = 0;
    this.wanted = 8;
  }

  /** The messages that `data` completes. Throws where the peer broke the protocol. */
  receive(data) {
    this.parts.push(data);
    this.size += data.length;
    const found = [];
    while (this.size >= this.wanted) {
      const held = this.parts.length === 1 ? this.parts[0] : Buffer.concat(this.parts);
      this.parts = [held];
      const body = held.readUInt32LE(0);
      const bulk = held.readUInt32LE(4);
      if (body > FRAME_MAX || bulk > BULK_MAX) throw new RangeError('a frame is too large');
      const end = 8 + body + bulk;
      if (held.length < end) {
        this.wanted = end;
        break;
      }
      found.push(unpack(held.subarray(8, 8 + body), held.subarray(8 + body, end)));
      this.parts = [held.subarray(end)];
      this.size = held.length - end;
      this.wanted = 8;
    }
    return found;
  }
}

module.exports = { Frames, frame, pack, unpack };
