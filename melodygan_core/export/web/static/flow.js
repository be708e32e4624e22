// Latents of the temporal flow without end: the solver of melodygan_core/prior/flow, window by window.

import { seedOf, TorchRandom } from "./random.js";

export class FlowLatents {
  /**
   * @param {object} manifest Of the export.
   * @param {object} networks `velocity` and `latents`: async functions of arrays.
   * @param {{seed: number[], condition: number}} settings
   */
  constructor(manifest, networks, { seed, condition }) {
    const { config, lowest, highest } = manifest.prior;
    this.config = config; this.lowest = lowest; this.highest = highest;
    this.networks = networks; this.condition = condition;
    this.seed = seed[1] ? seed : [seed[0]];
    this.steps = manifest.generation.steps || config.steps;
    this.size = config.window_tokens; this.dim = lowest.length;
    this.number = 0; this.made = null;
  }

  /** The next latents: at least so many tokens, whole half windows. */
  async next(tokens) {
    const parts = [];
    for (let count = 0; count < tokens; count += parts.at(-1).length / this.dim) parts.push(await this.window());
    const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((at, part) => { joined.set(part, at); return at + part.length; }, 0);
    return joined;
  }

  noise(tokens) {
    return new TorchRandom(seedOf(this.seed, this.number)[0]).randn(tokens * this.dim);
  }

  /** The first window, then half a window at a time, which goes on from the half before it. */
  async window() {
    const { size, dim } = this, half = (size / 2) * dim, known = new Float32Array(size * dim);
    const mask = new Float32Array(size);
    let noise;
    if (this.number === 0) {
      noise = this.noise(size);
    } else {
      const drawn = this.noise(2 * size);
      noise = drawn.slice(0, size * dim);
      mask.fill(1, 0, size / 2);
      // A little noise on what was generated, against drift.
      const shaken = 0.5 * this.config.context_noise;
      for (let n = 0; n < half; n++) known[n] = this.made[half + n] + shaken * drawn[size * dim + n];
    }
    const first = this.number++ === 0;
    this.made = await this.solved(noise, known, mask, !first);
    const latents = await this.networks.latents(this.made, size);
    return first ? latents : latents.slice(half);
  }

  /** One window, whitened, by the midpoint rule; no prediction leaves the range of the training latents. */
  async solved(noise, known, mask, someKnown) {
    const { dim, size, lowest, highest } = this, count = noise.length, step = 1 / this.steps;
    const limited = (value, n) => Math.min(Math.max(value, lowest[n % dim]), highest[n % dim]);
    const velocity = async (given, time) => {
      const x = given.slice();
      if (someKnown)
        for (let n = 0; n < (size / 2) * dim; n++) x[n] = (1 - time) * noise[n] + time * known[n];
      const made = await this.networks.velocity(x, time, known, mask, size, this.condition);
      const found = new Float32Array(count);
      for (let n = 0; n < count; n++) found[n] = (limited(x[n] + (1 - time) * made[n], n) - x[n]) / (1 - time);
      return found;
    };
    let x = noise;
    for (let k = 0; k < this.steps; k++) {
      const before = await velocity(x, k * step), middle = x.map((value, n) => value + 0.5 * step * before[n]);
      const inside = await velocity(middle, (k + 0.5) * step);
      x = x.map((value, n) => value + step * inside[n]);
    }
    return x.map(limited);
  }
}
