// The last minute of sound, and WAV files of 16 bits.

/** The newest samples of each channel, up to a number. */
export class History {
  constructor(samples, channels) {
    this.samples = samples; this.made = 0;
    this.channels = Array.from({ length: channels }, () => new Float32Array(samples + 16 * 48000));
  }

  add(channels) {
    const size = this.channels[0].length;
    channels.forEach((values, c) => {
      for (let n = 0; n < values.length; n++) this.channels[c][(this.made + n) % size] = values[n];
    });
    this.made += channels[0].length;
  }

  /** The samples before the last `waiting` ones, which nobody has heard yet. */
  last(waiting) {
    const size = this.channels[0].length, end = Math.max(0, this.made - waiting);
    const first = Math.max(0, end - this.samples, this.made - size);
    return this.channels.map((held) => Float32Array.from({ length: end - first }, (_, n) => held[(first + n) % size]));
  }
}

/** An ArrayBuffer with the sound of equally long channels. */
export function encodeWav(channels, sampleRate, gain = 1) {
  const count = channels.length, bytes = 2 * count * channels[0].length;
  const buffer = new ArrayBuffer(44 + bytes), view = new DataView(buffer);
  const text = (at, value) => [...value].forEach((c, k) => view.setUint8(at + k, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + bytes, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, count, true);
  view.setUint32(24, sampleRate, true); view.setUint32(28, 2 * count * sampleRate, true);
  view.setUint16(32, 2 * count, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, bytes, true);
  for (let n = 0, at = 44; n < channels[0].length; n++)
    for (let c = 0; c < count; c++, at += 2) {
      const value = Math.min(Math.max(channels[c][n] * gain, -1), 1);
      view.setInt16(at, Math.round(value * 32767), true);
    }
  return buffer;
}
