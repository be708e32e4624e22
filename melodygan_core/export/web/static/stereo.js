// Stereo sound of mono sound and stereo parameters, as melodygan_core/audio/stereo.py makes it.

import { Fft } from "./fft.js";
import { TorchRandom } from "./random.js";
import { Stft } from "./stft.js";

const SMOOTHED = 8, MAX_LEVEL_DB = 30, MIN_CORRELATION = -0.6, DECORRELATION_S = 0.03;
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

/** (rows, width) -> moving mean over 8 rows; fewer at the ends. */
function smoothed(values, width) {
  const rows = values.length / width, made = new Float32Array(values.length), before = SMOOTHED / 2;
  for (let t = 0; t < rows; t++) {
    const first = Math.max(0, t - before), last = Math.min(rows, t + SMOOTHED - before);
    for (let k = 0; k < width; k++) {
      let total = 0;
      for (let u = first; u < last; u++) total += values[u * width + k];
      made[t * width + k] = total / (last - first);
    }
  }
  return made;
}

/** Real sound through a complex FFT of its size. */
function transformed(values, size, fft) {
  const re = new Float64Array(size), im = new Float64Array(size);
  re.set(values);
  fft.forward(re, im);
  return { re, im };
}

export class Stereo {
  // Frames beside a block that its samples depend on: windows, moving means and the decorrelating filter.
  static BEFORE = 24;
  static AFTER = 16;

  constructor(sampleRate, hop, bands) {
    this.hop = hop; this.bands = bands; this.stft = new Stft(4 * hop, hop);
    const bins = this.stft.bins, erb = (k) => 21.4 * Math.log10(1 + (0.00437 * sampleRate * k) / (2 * (bins - 1)));
    // Each bin lies in two bands.
    this.band = new Int32Array(bins); this.share = new Float32Array(bins);
    for (let k = 0; k < bins; k++) {
      const position = (erb(k) / erb(bins - 1)) * (bands - 1);
      this.band[k] = Math.min(Math.floor(position), bands - 2);
      this.share[k] = position - this.band[k];
    }
    const size = 2 ** Math.max(6, bits(Math.round(DECORRELATION_S * sampleRate - 1)));
    const decay = new TorchRandom(0).randn(size).map((x, n) => x * Math.exp((-6.9 * n) / (DECORRELATION_S * sampleRate)));
    const fft = new Fft(size), { re, im } = transformed(decay, size, fft);
    for (let k = 0; k < size; k++) {
      const length = Math.max(Math.sqrt(re[k] ** 2 + im[k] ** 2), 1e-9);
      re[k] /= length; im[k] /= length;
    }
    fft.inverse(re, im);
    this.filter = Float32Array.from(re, (x) => x / size);
    this.fft = new Fft(4 * size);
    this.kernel = transformed(this.filter, 4 * size, this.fft);
  }

  /** Side signal of a part of a piece: (samples,) and the parameters of its frames (frames, 2 * bands). */
  side(wav, parameters) {
    const { hop, stft } = this, size = stft.size, frames = 5 + Math.ceil(wav.length / hop);
    const pad = (x) => {
      const padded = new Float32Array(size + (frames - 1) * hop);
      padded.set(x, size);
      return padded;
    };
    const mid = stft.frames(pad(wav), frames), other = stft.frames(pad(this.decorrelated(wav)), frames);
    this.mix(mid, other, frames, smoothed(parameters, 2 * this.bands));
    const total = stft.overlapAdd(mid);
    // The sum of four squared Hann windows.
    const side = new Float32Array(wav.length);
    for (let n = 0; n < side.length; n++) side[n] = total[size + n] / 1.5;
    return side;
  }

  /** The sound through the filter, by overlap-save: two blocks, as real and imaginary part, at once. */
  decorrelated(wav) {
    const { fft, kernel, filter } = this, size = fft.size, before = filter.length, fresh = size - before;
    const made = new Float32Array(wav.length), re = new Float64Array(size), im = new Float64Array(size);
    for (let start = 0; start < wav.length; start += 2 * fresh) {
      for (let n = 0; n < size; n++) {
        const a = start - before + n, b = a + fresh;
        re[n] = a >= 0 && a < wav.length ? wav[a] : 0;
        im[n] = b >= 0 && b < wav.length ? wav[b] : 0;
      }
      fft.forward(re, im);
      for (let k = 0; k < size; k++) {
        const a = re[k], b = im[k];
        re[k] = a * kernel.re[k] - b * kernel.im[k]; im[k] = a * kernel.im[k] + b * kernel.re[k];
      }
      fft.inverse(re, im);
      for (let n = before; n < size; n++) {
        const a = start - before + n, b = a + fresh;
        if (a < wav.length) made[a] = re[n] / size;
        if (b < wav.length) made[b] = im[n] / size;
      }
    }
    return made;
  }

  /** Replaces the mid spectrum with that of the side signal; see `_mixed` of audio/stereo.py. */
  mix(mid, other, frames, parameters) {
    const { bands, band, share } = this, bins = band.length, width = 3 * bands;
    let powers = new Float32Array(frames * width);
    for (let t = 0, p = 0; t < frames; t++)
      for (let k = 0; k < bins; k++, p++) {
        const a = mid.re[p], b = mid.im[p], c = other.re[p], d = other.im[p];
        const at = t * width + band[k], s = share[k], r = 1 - s;
        const power = a * a + b * b, otherPower = c * c + d * d, cross = a * c + b * d;
        powers[at] += r * power; powers[at + 1] += s * power;
        powers[at + bands] += r * otherPower; powers[at + bands + 1] += s * otherPower;
        powers[at + 2 * bands] += r * cross; powers[at + 2 * bands + 1] += s * cross;
      }
    powers = smoothed(powers, width);
    const rows = parameters.length / (2 * bands), ofMid = new Float32Array(bands), ofOther = new Float32Array(bands);
    for (let t = 0, p = 0; t < frames; t++) {
      const from = clamp(t - 2, 0, rows - 1) * 2 * bands, at = t * width;
      for (let k = 0; k < bands; k++) {
        const { along, across } = gains(parameters[from + k], parameters[from + bands + k]);
        const power = powers[at + k], cross = powers[at + 2 * bands + k];
        const shared = cross / Math.max(power, 1e-20);
        const rest = Math.max(powers[at + bands + k] - shared * cross, 0);
        const level = Math.min(Math.sqrt(power / Math.max(rest, 1e-20)), 4);
        ofMid[k] = along - across * level * shared; ofOther[k] = across * level;
      }
      for (let k = 0; k < bins; k++, p++) {
        const b = band[k], s = share[k];
        const m = (1 - s) * ofMid[b] + s * ofMid[b + 1], o = (1 - s) * ofOther[b] + s * ofOther[b + 1];
        mid.re[p] = m * mid.re[p] + o * other.re[p]; mid.im[p] = m * mid.im[p] + o * other.im[p];
      }
    }
  }
}

function bits(number) { return Math.floor(Math.log2(number)) + 1; }

function gains(level, correlation) {
  const ratio = 10 ** (clamp(level, -1, 1) * (MAX_LEVEL_DB / 20)), k = clamp(correlation, MIN_CORRELATION, 1);
  const scale = ratio ** 2 + 1 + 2 * k * ratio, along = (ratio ** 2 - 1) / scale;
  const power = (ratio ** 2 + 1 - 2 * k * ratio) / scale;
  return { along, across: Math.sqrt(Math.max(power - along ** 2, 0)) };
}
