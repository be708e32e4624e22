// The ONNX networks of an export as async functions of Float32Arrays.

const DIRECTORY = "models/";

/** Loads what the manifest names; `loaded` is called with the number of bytes after each file. */
export async function load(ort, manifest, base, loaded = () => {}) {
  const sessions = {};
  // Autoguidance is not offered.
  for (const network of manifest.networks.filter(({ name }) => name !== "guide")) {
    const answer = await fetch(new URL(DIRECTORY + encodeURIComponent(network.file), base));
    if (!answer.ok) throw new Error(`${network.file} must be beside the page, got status ${answer.status}`);
    const bytes = await answer.arrayBuffer();
    loaded(bytes.byteLength);
    sessions[network.name] = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  }
  const run = async (name, ...values) => {
    const network = manifest.networks.find((n) => n.name === name), given = {};
    network.inputs.forEach((port, k) => {
      const [data, length, type = "float32"] = values[k];
      given[port.name] = new ort.Tensor(type, data, port.shape.map((n) => (typeof n === "number" ? n : length)));
    });
    const made = await sessions[name].run(given);
    return network.outputs.map((port) => made[port.name].data);
  };
  const condition = (index) => [[BigInt64Array.of(BigInt(index)), 1, "int64"]];
  const conditioned = manifest.prior.conditions.length > 0;
  return {
    generator: async (noise, tokens, index) =>
      (await run("generator", [noise, tokens], ...(conditioned ? condition(index) : [])))[0],
    velocity: async (x, time, known, mask, tokens, index) => {
      const given = [[x, tokens], [Float32Array.of(time), 1], [known, tokens], [mask, tokens]];
      return (await run("velocity", ...given, ...(conditioned ? condition(index) : [])))[0];
    },
    latents: async (whitened, tokens) => (await run("latents", [whitened, tokens]))[0],
    decoder: async (latents, noise, tokens) => {
      const [spectrum, stereo] = await run("decoder", [latents, tokens], ...(noise ? [[noise, tokens]] : []));
      return { spectrum, stereo };
    },
    magnitude: async (spectrum, frames) => (await run("magnitude", [spectrum, frames]))[0],
    vocoder: async (spectrum, re, im, frames) =>
      (await run("vocoder", [spectrum, frames], [re, frames], [im, frames]))[0],
  };
}
