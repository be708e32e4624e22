// The rows of an endless sequence that are still needed.

export class Rolling {
  /** @param {number} width Values of a row. */
  constructor(width) {
    this.width = width; this.start = 0; this.end = 0; this.values = new Float32Array(0);
  }

  /** Adds whole rows at the end. */
  append(values) {
    const held = (this.end - this.start) * this.width;
    if (held + values.length > this.values.length) {
      const larger = new Float32Array(2 * (held + values.length));
      larger.set(this.values.subarray(0, held));
      this.values = larger;
    }
    this.values.set(values, held);
    this.end += values.length / this.width;
  }

  /** A copy of the rows from one number up to another. */
  slice(first, last) {
    if (first < this.start || last > this.end)
      throw new Error(`rows must be within ${this.start} to ${this.end}, got ${first} to ${last}`);
    return this.values.slice((first - this.start) * this.width, (last - this.start) * this.width);
  }

  /** Forgets the rows before a number. */
  drop(first) {
    const count = Math.min(first, this.end) - this.start;
    if (count <= 0) return;
    this.values.copyWithin(0, count * this.width, (this.end - this.start) * this.width);
    this.start += count;
  }
}
