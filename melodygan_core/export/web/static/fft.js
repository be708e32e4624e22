// Complex FFT of a power of two, in double precision.

export class Fft {
  /** @param {number} size A power of two, 4 or more. */
  constructor(size) {
    this.size = size;
    this.cos = new Float64Array(size / 2);
    this.sin = new Float64Array(size / 2);
    for (let k = 0; k < size / 2; k++) {
      this.cos[k] = Math.cos((2 * Math.PI * k) / size);
      this.sin[k] = -Math.sin((2 * Math.PI * k) / size);
    }
    this.reversed = new Uint32Array(size);
    const bits = Math.log2(size);
    for (let i = 0; i < size; i++) this.reversed[i] = (this.reversed[i >> 1] >> 1) | ((i & 1) << (bits - 1));
  }

  /** Transforms in place: X[k] = sum of x[n] exp(-2 pi i k n / size). */
  forward(re, im) {
    const { size, reversed } = this;
    for (let i = 0; i < size; i++) {
      const j = reversed[i];
      if (j > i) {
        const a = re[i], b = im[i];
        re[i] = re[j]; im[i] = im[j]; re[j] = a; im[j] = b;
      }
    }
    // The first two stages in one, without products.
    for (let i = 0; i < size; i += 4) {
      const ar = re[i] + re[i + 1], ai = im[i] + im[i + 1], br = re[i] - re[i + 1], bi = im[i] - im[i + 1];
      const cr = re[i + 2] + re[i + 3], ci = im[i + 2] + im[i + 3];
      const dr = re[i + 2] - re[i + 3], di = im[i + 2] - im[i + 3];
      re[i] = ar + cr; im[i] = ai + ci; re[i + 2] = ar - cr; im[i + 2] = ai - ci;
      re[i + 1] = br + di; im[i + 1] = bi - dr; re[i + 3] = br - di; im[i + 3] = bi + dr;
    }
    let half = 4;
    // Two stages at a time; they go through memory once.
    for (; 2 * half < size; half *= 4) this.twoStages(re, im, half);
    if (half < size) this.stage(re, im, half);
  }

  stage(re, im, half) {
    const { size, cos, sin } = this, step = size / (2 * half);
    for (let start = 0; start < size; start += 2 * half) {
      for (let k = 0, t = 0; k < half; k++, t += step) {
        const i = start + k, j = i + half, c = cos[t], s = sin[t];
        const xr = re[j] * c - im[j] * s, xi = re[j] * s + im[j] * c;
        re[j] = re[i] - xr; im[j] = im[i] - xi;
        re[i] += xr; im[i] += xi;
      }
    }
  }

  twoStages(re, im, half) {
    const { size, cos, sin } = this, step = size / (4 * half);
    for (let start = 0; start < size; start += 4 * half) {
      for (let k = 0, t = 0; k < half; k++, t += step) {
        const i0 = start + k, i1 = i0 + half, i2 = i1 + half, i3 = i2 + half;
        const c1 = cos[2 * t], s1 = sin[2 * t], c2 = cos[t], s2 = sin[t];
        const br = re[i1] * c1 - im[i1] * s1, bi = re[i1] * s1 + im[i1] * c1;
        const dr = re[i3] * c1 - im[i3] * s1, di = re[i3] * s1 + im[i3] * c1;
        const a0r = re[i0] + br, a0i = im[i0] + bi, a1r = re[i0] - br, a1i = im[i0] - bi;
        const a2r = re[i2] + dr, a2i = im[i2] + di, a3r = re[i2] - dr, a3i = im[i2] - di;
        const cr = a2r * c2 - a2i * s2, ci = a2r * s2 + a2i * c2;
        // A quarter turn further.
        const er = a3r * s2 + a3i * c2, ei = a3i * s2 - a3r * c2;
        re[i0] = a0r + cr; im[i0] = a0i + ci; re[i2] = a0r - cr; im[i2] = a0i - ci;
        re[i1] = a1r + er; im[i1] = a1i + ei; re[i3] = a1r - er; im[i3] = a1i - ei;
      }
    }
  }

  /** The inverse in place, not divided by the size. */
  inverse(re, im) {
    this.forward(im, re);
  }
}
