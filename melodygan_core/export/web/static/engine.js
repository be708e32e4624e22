// Endless sound of an exported release: latents, spectrum, mono and stereo sound, each a little ahead of the next.
// Blocks of any size give the same sound, because each is made with all that it depends on.

import { FlowLatents } from "./flow.js";
import { GanLatents } from "./gan.js";
import { seedOf, TorchRandom } from "./random.js";
import { Rolling } from "./rolling.js";
import { Stereo } from "./stereo.js";
import { Vocoder } from "./vocoder.js";

const PRIORS = { "temporal/gan": GanLatents, "temporal/flow": FlowLatents, "temporal/plan": FlowLatents };
// Tokens that are decoded at once, beside those that they depend on. The first are few, so that sound begins soon.
const FEWEST_TOKENS = 32, MOST_TOKENS = 192;

/** Standard normal noise of the refiner, from a seed: (tokens, values) from a token on, called in order. */
function refinerNoise(values, seed) {
  const random = new TorchRandom(seed);
  const rows = new Rolling(values);
  return (first, last) => {
    while (rows.end < last) rows.append(random.randn(values));
    rows.drop(first);
    return rows.slice(first, last);
  };
}

export class Engine {
  /**
   * @param {object} manifest The export's `export.json`.
   * @param {object} networks From `networks.js`.
   * @param {object} settings `seed`, and optionally `condition` (an index), `truncation` and `noise`: a function
   *   (first, last) -> noise of the refiner for these tokens.
   */
  constructor(manifest, networks, settings) {
    const { feature, codec, prior } = manifest;
    this.codec = codec; this.networks = networks; this.hop = feature.hop_length;
    this.channels = feature.channels; this.sampleRate = feature.sample_rate;
    const seed = seedOf(settings.seed, 0);
    const chosen = { condition: 0, truncation: manifest.generation.truncation, ...settings, seed };
    this.prior = new PRIORS[prior.kind](manifest, networks, chosen);
    this.noise = settings.noise ?? refinerNoise(codec.noise_values, seed[0] + 3);
    this.latents = new Rolling(codec.latent_dim);
    this.bands = manifest.networks.find((n) => n.name === "decoder").outputs[0].shape[2];
    this.spectrum = new Rolling(this.bands);
    this.parameters = this.channels === 2 ? new Rolling(2 * STEREO_BANDS) : null;
    this.vocoder = new Vocoder(manifest, networks, (frame) => this.framesUpTo(frame));
    this.stereo = this.channels === 2 ? new Stereo(feature.sample_rate, this.hop, STEREO_BANDS) : null;
    this.made = 0;
  }

  /** The next part of the piece: an array of samples per channel, `frames` hops long. */
  async next(frames) {
    const first = this.made, last = first + frames;
    this.made = last;
    if (!this.stereo) {
      const wav = (await this.vocoder.upTo(last)).slice(first, last);
      this.vocoder.wav.drop(last);
      return [wav];
    }
    const from = Math.max(0, first - Stereo.BEFORE), until = last + Stereo.AFTER;
    const wav = (await this.vocoder.upTo(until)).slice(from, until);
    const side = this.stereo.side(wav, this.parameters.slice(from, until));
    this.vocoder.wav.drop(last - Stereo.BEFORE);
    this.parameters.drop(last - Stereo.BEFORE);
    const begin = (first - from) * this.hop;
    const left = new Float32Array(frames * this.hop), right = new Float32Array(frames * this.hop);
    for (let n = 0; n < left.length; n++) {
      left[n] = wav[begin + n] + side[begin + n];
      right[n] = wav[begin + n] - side[begin + n];
    }
    return [left, right];
  }

  /** Makes the spectrum up to a frame, and returns it. */
  async framesUpTo(frame) {
    while (this.spectrum.end < frame) await this.decode();
    return this.spectrum;
  }

  async decode() {
    const { token_frames, reach_tokens: reach, noise_values } = this.codec;
    const first = this.spectrum.end / token_frames;
    const last = first + Math.min(Math.max(first, FEWEST_TOKENS), MOST_TOKENS);
    const from = Math.max(0, first - reach), until = last + reach;
    if (this.latents.end < until) this.latents.append(await this.prior.next(until - this.latents.end));
    const latents = this.latents.slice(from, until);
    const noise = noise_values ? this.noise(from, until) : null;
    const { spectrum, stereo } = await this.networks.decoder(latents, noise, until - from);
    const part = (values, width) =>
      values.subarray((first - from) * token_frames * width, (last - from) * token_frames * width);
    this.spectrum.append(part(spectrum, this.bands));
    if (this.parameters) this.parameters.append(part(stereo, 2 * STEREO_BANDS));
    this.latents.drop(last - reach);
  }
}

const STEREO_BANDS = 20;
