// Spectrum -> mono sound, block by block, as melodygan_core/vocoder/neural.py makes it.

import { singlePassPhase } from "./phase.js";
import { Rolling } from "./rolling.js";
import { Stft } from "./stft.js";

const MAX_LOG = 10, MAX_RATIO = 4, MIN_MAGNITUDE = Math.fround(1e-4);
// Math.hypot is many times slower, and nothing here overflows.
const length = (re, im) => Math.sqrt(re * re + im * im);

export class Vocoder {
  /**
   * @param {object} manifest Of the export.
   * @param {object} networks `magnitude` and `vocoder`: async functions of arrays.
   * @param {(frames: number) => Promise<Rolling>} spectrum Makes frames up to a number and returns them.
   */
  constructor(manifest, networks, spectrum) {
    const { n_fft, hop_length, bands } = manifest.feature, { config, iterations } = manifest.vocoder;
    this.stft = new Stft(n_fft, hop_length);
    this.hop = hop_length; this.bins = n_fft / 2 + 1; this.mel = bands === "mel";
    this.iterations = iterations; this.networks = networks; this.spectrum = spectrum;
    this.overlap = Math.floor(n_fft / hop_length);
    this.context = (2 + iterations) * this.overlap + config.blocks * Math.floor(config.kernel / 2);
    this.before = null;
    // Rows of a hop each.
    this.wav = new Rolling(hop_length);
  }

  /** Makes sound up to a frame, as one block, and returns it. */
  async upTo(frame) {
    if (this.wav.end < frame) await this.block(frame - this.wav.end);
    return this.wav;
  }

  async block(size) {
    const { context, overlap, hop, bins } = this;
    const start = this.wav.end, end = start + size, first = Math.max(0, start - context);
    const rows = await this.spectrum(end + context);
    const spectrum = rows.slice(first, end + context), frames = end + context - first;
    const magnitude = await this.networks.magnitude(spectrum, frames);
    for (let p = 0; p < magnitude.length; p++) if (magnitude[p] < MIN_MAGNITUDE) magnitude[p] = MIN_MAGNITUDE;
    const phase = singlePassPhase(magnitude, bins, hop, this.before);
    const last = end - context - 1 - first;
    this.before = last >= 0 ? phase.slice(last * bins, (last + 1) * bins) : null;
    const refined = await this.refined(spectrum, magnitude, phase, frames);
    const wide = Math.max(0, start - overlap) - first, count = end + overlap - first - wide;
    const part = (x) => x.subarray(wide * bins, (wide + count) * bins);
    const wav = this.stft.inverse({ re: part(refined.re), im: part(refined.im), frames: count });
    const skipped = (start - first - wide) * hop;
    this.wav.append(wav.subarray(skipped, skipped + size * hop));
    rows.drop(end - context);
  }

  async refined(spectrum, magnitude, phase, frames) {
    const count = magnitude.length;
    const initial = { re: new Float32Array(count), im: new Float32Array(count), frames };
    for (let p = 0; p < count; p++) {
      initial.re[p] = magnitude[p] * Math.cos(phase[p]);
      initial.im[p] = magnitude[p] * Math.sin(phase[p]);
    }
    for (let n = 0; n < this.iterations; n++) {
      const again = this.stft.forward(this.stft.inverse(initial));
      for (let p = 0; p < count; p++) {
        const size = length(again.re[p], again.im[p]);
        if (size === 0) continue;
        initial.re[p] = (magnitude[p] * again.re[p]) / size;
        initial.im[p] = (magnitude[p] * again.im[p]) / size;
      }
    }
    // The ratio of the resynthesis to the spectrum, in place of the resynthesis.
    const ratio = this.stft.forward(this.stft.inverse(initial));
    for (let p = 0; p < count; p++) {
      const a = initial.re[p], b = initial.im[p], power = a * a + b * b;
      let re = (ratio.re[p] * a + ratio.im[p] * b) / power, im = (ratio.im[p] * a - ratio.re[p] * b) / power;
      const size = length(re, im);
      if (size > MAX_RATIO) { re *= MAX_RATIO / size; im *= MAX_RATIO / size; }
      ratio.re[p] = re; ratio.im[p] = im;
    }
    const change = await this.networks.vocoder(spectrum, ratio.re, ratio.im, frames);
    const { bins } = this;
    for (let t = 0, p = 0; t < frames; t++) {
      for (let k = 0, c = 2 * t * bins; k < bins; k++, p++, c++) {
        const d_phase = change[c + bins];
        const size = Math.exp(Math.min(Math.log(magnitude[p]) + change[c], MAX_LOG));
        if (this.mel) {
          initial.re[p] = size * Math.cos(phase[p] + d_phase); initial.im[p] = size * Math.sin(phase[p] + d_phase);
          continue;
        }
        // The phases of the resynthesis, turned.
        const a = initial.re[p], b = initial.im[p], re = a * ratio.re[p] - b * ratio.im[p];
        const im = a * ratio.im[p] + b * ratio.re[p], size0 = length(re, im);
        const scale = size0 > 0 ? size / size0 : 0, c0 = Math.cos(d_phase), s0 = Math.sin(d_phase);
        initial.re[p] = scale * (c0 * re - s0 * im); initial.im[p] = scale * (c0 * im + s0 * re);
      }
    }
    return initial;
  }
}
