/**
 * Power relay with a binary protocol.
 * @version 1.4.0
 */
const BaseDriver = require('./base-driver');

class BinaryPowerControl extends BaseDriver {
  constructor(options = {}) {
    super(options);
    this.port = options.port || 23;
    this.outlets = options.outlets || 8;
    this.waiting = [];
    this.held = '';
    this.on('data', (data) => this.hear(String(data)));
    this.on('close', () => this.waiting.splice(0).forEach(({ reject }) => reject(new Error('the relay hung up'))));
  }

  async connect() {
    await this.open();
    console.log('identity', await this._ask('ID?'));
    return true;
  }

  async disconnect() {
    await this.close();
  }

  hear(text) {
    const lines = (this.held + text).split('\n');
    this.held = lines.pop();
    for (const line of lines) {
      if (line.startsWith('!')) this.publish('tripped', { outlet: Number(line.slice(1)) });
      else this.waiting.shift()?.resolve(line);
    }
  }

  async _ask(line) {
    const answer = new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
    await this.send(`${line}\n`);
    return answer;
  }

  /** Switch one outlet. */
  async setOutlet(outlet, state = true) {
    if (outlet < 1 || outlet > this.outlets) {
      throw new RangeError(`there is no outlet ${outlet}`);
    }
    return (await this._ask(`SET ${outlet} ${state ? 1 : 0}`)) === 'OK';
  }

  async readOutlets() {
    return Array.from(Buffer.from(await this._ask('GET?'), 'hex'));
  }

  echo({ value, times = 1 }) {
    return { value, times };
  }

  spin() {
    for (;;) { /* never comes back */ }
  }

  never() {
    return new Promise(() => {});
  }

  crash() {
    setImmediate(() => { throw new Error('the relay driver fell over'); });
    return new Promise(() => {});
  }

  defect() {
    return undefined.property;
  }
}

module.exports = BinaryPowerControl;
