// Latents of the temporal GAN without end: the noise of melodygan_core/prior/gan/layers.py, margin by margin.

import { TorchRandom } from "./random.js";

class PieceNoise {
  constructor(config, seed, truncation) {
    this.c = config; this.truncation = truncation;
    this.stages = Math.log2(config.patch_tokens / 4);
    this.margin = 2 ** this.stages;
    this.rest = config.local_dim + 2 * this.stages;
    this.width = config.style_dim + config.global_dim + this.rest;
    const [style, whole, local] = [0, 1, 2].map((k) => new TorchRandom(seed + k));
    this.style = style; this.local = local;
    this.piece = whole.truncated(config.global_dim, truncation);
    // Local styles by number; old ones are forgotten.
    this.anchors = new Map(); this.drawn = 0; this.made = 0;
  }

  anchor(number) {
    while (this.drawn <= number)
      this.anchors.set(this.drawn++, this.style.truncated(this.c.style_dim, this.truncation));
    return this.anchors.get(number);
  }

  /** The rows of the next margin: margin times width. */
  next() {
    const { style_dim, anchor_patches, patch_tokens } = this.c, spacing = anchor_patches * patch_tokens;
    const rows = new Float32Array(this.margin * this.width);
    const local = this.local.randn(this.margin * this.rest);
    for (let t = 0; t < this.margin; t++) {
      const position = (this.made * this.margin + t) / spacing, left = Math.floor(position);
      const fade = position - left, level = Math.sqrt((1 - fade) ** 2 + fade ** 2), row = t * this.width;
      const a = this.anchor(left), b = this.anchor(left + 1);
      for (let k = 0; k < style_dim; k++) rows[row + k] = ((1 - fade) * a[k] + fade * b[k]) / level;
      rows.set(this.piece, row + style_dim);
      rows.set(local.subarray(t * this.rest, (t + 1) * this.rest), row + style_dim + this.piece.length);
      this.anchors.delete(left - 1);
    }
    this.made++;
    return rows;
  }
}

export class GanLatents {
  /**
   * @param {object} manifest Of the export.
   * @param {object} networks `generator`: an async function of arrays.
   * @param {{seed: number[], condition: number, truncation: number}} settings
   */
  constructor(manifest, networks, { seed, condition, truncation }) {
    this.noise = new PieceNoise(manifest.prior.config, seed[0], truncation);
    this.networks = networks; this.condition = condition;
    // The margins on both sides of what is made next.
    this.held = [this.noise.next(), this.noise.next()];
  }

  /** The next latents: at least so many tokens, whole margins. */
  async next(tokens) {
    const { margin, width } = this.noise, blocks = Math.ceil(tokens / margin);
    while (this.held.length < blocks + 2) this.held.push(this.noise.next());
    const rows = new Float32Array((blocks + 2) * margin * width);
    this.held.forEach((block, k) => rows.set(block, k * margin * width));
    this.held = this.held.slice(-2);
    return this.networks.generator(rows, (blocks + 2) * margin, this.condition);
  }
}
