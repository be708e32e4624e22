// The random numbers of numpy's SeedSequence and of torch's CPU generator: the same seed makes the same piece.

/** The words of 32 bits of a number below 2^53, lowest first. */
function words(number) {
  const found = [number >>> 0], high = Math.floor(number / 2 ** 32);
  return high ? [...found, high] : found;
}

/** One 64-bit state of numpy's SeedSequence, as [low, high] words, shifted right by one bit. */
export function seedOf(...entropy) {
  let constant = 0x43b0d7e5;
  const hash = (value) => {
    value ^= constant;
    constant = Math.imul(constant, 0x931e8875);
    value = Math.imul(value, constant);
    return value ^ (value >>> 16);
  };
  const mix = (x, y) => {
    const value = (Math.imul(x, 0xca01f9dd) - Math.imul(y, 0x4973f715)) | 0;
    return value ^ (value >>> 16);
  };
  const given = entropy.flatMap((value) => (Array.isArray(value) ? value : words(value)));
  const pool = [0, 1, 2, 3].map((k) => hash(given[k] ?? 0));
  for (let from = 0; from < 4; from++)
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
  for (const value of given.slice(4)) for (let to = 0; to < 4; to++) pool[to] = mix(pool[to], hash(value));
  let other = 0x8b51f9dd;
  const [low, high] = [0, 1].map((k) => {
    let value = pool[k] ^ other;
    other = Math.imul(other, 0x58f38ded);
    value = Math.imul(value, other);
    return (value ^ (value >>> 16)) >>> 0;
  });
  return [((low >>> 1) | (high << 31)) >>> 0, high >>> 1];
}

export class TorchRandom {
  /** @param {number} seed Its lower 32 bits count. */
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed >>> 0;
    for (let k = 1; k < 624; k++) {
      const x = this.state[k - 1] ^ (this.state[k - 1] >>> 30);
      this.state[k] = Math.imul(x, 1812433253) + k;
    }
    this.at = 624;
    this.second = null;
  }

  integer() {
    const s = this.state;
    if (this.at === 624) {
      for (let k = 0; k < 624; k++) {
        const y = (s[k] & 0x80000000) | (s[(k + 1) % 624] & 0x7fffffff);
        s[k] = s[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.at = 0;
    }
    let y = s[this.at++];
    y ^= y >>> 11; y ^= (y << 7) & 0x9d2c5680; y ^= (y << 15) & 0xefc60000; y ^= y >>> 18;
    return y >>> 0;
  }

  uniform() { return (this.integer() & 0xffffff) / 0x1000000; }

  double() {
    const high = this.integer(), low = this.integer();
    return ((high & 0x1fffff) * 2 ** 32 + low) / 2 ** 53;
  }

  /** Standard normal values; counts below 16 come one by one. */
  randn(count) {
    const made = new Float32Array(count);
    if (count < 16) return made.map(() => this.normal());
    for (let k = 0; k < count; k++) made[k] = this.uniform();
    for (let k = 0; k + 16 <= count; k += 16) boxMuller(made.subarray(k, k + 16));
    if (count % 16) {
      const last = made.subarray(count - 16);
      for (let k = 0; k < 16; k++) last[k] = this.uniform();
      boxMuller(last);
    }
    return made;
  }

  normal() {
    if (this.second !== null) { const value = this.second; this.second = null; return value; }
    const angle = 2 * Math.PI * this.double(), radius = Math.sqrt(-2 * Math.log1p(-this.double()));
    this.second = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Normal values of which those beyond a limit are drawn again; 0 is no limit. */
  truncated(count, limit) {
    const made = this.randn(count);
    for (;;) {
      const outside = [];
      if (limit) made.forEach((value, k) => { if (Math.abs(value) > limit) outside.push(k); });
      if (!outside.length) return made;
      this.randn(outside.length).forEach((value, n) => { made[outside[n]] = value; });
    }
  }
}

function boxMuller(values) {
  for (let k = 0; k < 8; k++) {
    const radius = Math.sqrt(-2 * Math.log(1 - values[k])), angle = 2 * Math.PI * values[k + 8];
    values[k] = radius * Math.cos(angle); values[k + 8] = radius * Math.sin(angle);
  }
}
