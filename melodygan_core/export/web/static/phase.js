// Phases of sinusoids that are tracked from frame to frame (SPSI: Beauregard, Harish and Wyse 2015), as
// melodygan_core/vocoder/phase.py computes them.

const EPSILON = Math.fround(1e-5), GOLDEN = (Math.sqrt(5) - 1) / 2, TURN = 2 * Math.PI;
const { fround } = Math;

/**
 * @param {Float32Array} magnitude frames times bins.
 * @param {Float32Array|null} before Phases of the frame before the first; null at the start of a piece.
 * @returns {Float32Array} Radians in [0, 2 pi), of the same shape.
 */
export function singlePassPhase(magnitude, bins, hop, before) {
  const frames = magnitude.length / bins, phase = new Float32Array(magnitude.length);
  const advance = fround((TURN * hop) / (2 * (bins - 1)));
  let now = Float64Array.from({ length: bins }, (_, k) => (before ? before[k] : TURN * GOLDEN * k));
  let following = new Float64Array(bins);
  const level = new Float32Array(bins), peaks = new Int32Array(bins), offsets = new Float32Array(bins);
  for (let t = 0; t < frames; t++) {
    const at = t * bins;
    for (let k = 0; k < bins; k++) level[k] = Math.log(Math.max(magnitude[at + k], EPSILON));
    let count = 0;
    for (let k = 1; k < bins - 1; k++) {
      const lower = level[k - 1], here = level[k], upper = level[k + 1];
      if (here > lower && here >= upper) {
        const curvature = Math.min(lower - 2 * here + upper, -EPSILON);
        peaks[count] = k;
        offsets[count++] = Math.min(Math.max((0.5 * (lower - upper)) / curvature, -0.5), 0.5);
      }
    }
    for (let k = 0, nearest = 0; k < bins; k++) {
      while (nearest + 1 < count && peaks[nearest + 1] - k < k - peaks[nearest]) nearest++;
      const source = count ? peaks[nearest] : k, offset = count ? offsets[nearest] : 0;
      const turn = (k - source) & 1 ? fround(Math.PI) : 0;
      following[k] = (now[source] + fround(fround(advance * fround(source + offset)) + turn)) % TURN;
      phase[at + k] = following[k];
    }
    [now, following] = [following, now];
  }
  return phase;
}
