// STFT of one sound and its inverse, as torch computes them: centred, with a Hann window and reflected ends.
// A spectrum is {re, im, frames}: Float32Arrays of frames times bins.

import { Fft } from "./fft.js";

export function hann(size) {
  return Float32Array.from({ length: size }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / size));
}

export class Stft {
  constructor(size, hop) {
    this.size = size; this.hop = hop; this.bins = size / 2 + 1;
    this.window = hann(size);
    this.fft = new Fft(size);
    this.re = new Float64Array(size); this.im = new Float64Array(size);
  }

  /** Frames that begin `hop` apart in a sound that is padded already. */
  frames(padded, count) {
    const { size, hop, bins, window, re, im } = this;
    const made = { re: new Float32Array(count * bins), im: new Float32Array(count * bins), frames: count };
    // Two real frames are one complex transform.
    for (let t = 0; t < count; t += 2) {
      const a = t * hop, b = t + 1 < count ? a + hop : -1;
      for (let n = 0; n < size; n++) {
        re[n] = padded[a + n] * window[n];
        im[n] = b < 0 ? 0 : padded[b + n] * window[n];
      }
      this.fft.forward(re, im);
      for (let k = 0, p = t * bins; k < bins; k++, p++) {
        const m = (size - k) % size;
        made.re[p] = 0.5 * (re[k] + re[m]); made.im[p] = 0.5 * (im[k] - im[m]);
        if (b >= 0) { made.re[p + bins] = 0.5 * (im[k] + im[m]); made.im[p + bins] = 0.5 * (re[m] - re[k]); }
      }
    }
    return made;
  }

  /** Spectrum of (samples,): 1 + floor(samples / hop) frames. */
  forward(wav) {
    const half = this.size / 2, last = wav.length - 1;
    const padded = new Float32Array(wav.length + this.size);
    padded.set(wav, half);
    for (let n = 1; n <= half; n++) { padded[half - n] = wav[n]; padded[half + last + n] = wav[last - n]; }
    return this.frames(padded, 1 + Math.floor(wav.length / this.hop));
  }

  /** Sum of windowed frames, ((frames - 1) * hop + size,). */
  overlapAdd(spectrum) {
    const { size, hop, bins, window, re, im } = this, half = size / 2;
    const total = new Float64Array((spectrum.frames - 1) * hop + size);
    for (let t = 0; t < spectrum.frames; t += 2) {
      const p = t * bins, both = t + 1 < spectrum.frames;
      for (let k = 0; k <= half; k++) {
        const edge = k === 0 || k === half;
        const ar = spectrum.re[p + k], ai = edge ? 0 : spectrum.im[p + k];
        const br = both ? spectrum.re[p + bins + k] : 0, bi = both && !edge ? spectrum.im[p + bins + k] : 0;
        re[k] = ar - bi; im[k] = ai + br;
        if (!edge) { re[size - k] = ar + bi; im[size - k] = br - ai; }
      }
      this.fft.inverse(re, im);
      for (let n = 0, a = t * hop; n < size; n++) total[a + n] += (re[n] * window[n]) / size;
      if (both) for (let n = 0, b = (t + 1) * hop; n < size; n++) total[b + n] += (im[n] * window[n]) / size;
    }
    return total;
  }

  /** Sound ((frames - 1) * hop,) of a spectrum. */
  inverse(spectrum) {
    const { size, hop } = this, total = this.overlapAdd(spectrum), envelope = this.envelope(spectrum.frames);
    const made = new Float32Array((spectrum.frames - 1) * hop);
    for (let n = 0; n < made.length; n++) made[n] = total[n + size / 2] / envelope[n + size / 2];
    return made;
  }

  /** Sum of the squared windows of so many frames. Blocks of one length come one after the other. */
  envelope(frames) {
    if (this.envelopeFrames !== frames) {
      const { size, hop, window } = this, made = new Float64Array((frames - 1) * hop + size);
      for (let t = 0; t < frames; t++)
        for (let n = 0; n < size; n++) made[t * hop + n] += window[n] * window[n];
      this.envelopeFrames = frames;
      this.envelopeValues = made;
    }
    return this.envelopeValues;
  }
}
