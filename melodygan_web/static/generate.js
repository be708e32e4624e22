// The form of Generate: settings that are remembered, a seed that changes unless it is kept, and a job per request.
"use strict";

(() => {
  const form = document.getElementById("generate");
  if (!form) return;
  const { kind, mode, soundField, soundOptional } = form.dataset;
  const key = `studio.generate.${mode}`;
  const seed = form.elements.seed;
  const keep = document.getElementById("keep-seed");

  const settings = () => [...form.elements].filter((e) => e.name && e.dataset.setting !== "no");

  function remembered() {
    try {
      return JSON.parse(localStorage.getItem(key)) || {};
    } catch {
      return {}; // Storage may be switched off, or hold what an earlier version wrote.
    }
  }

  function restore() {
    const values = remembered();
    keep.checked = values.keepSeed === true;
    for (const input of settings()) {
      if (input.name === "seed" && !keep.checked) continue;
      const value = values[input.name];
      // Another pipeline may have other conditions.
      const offered = !input.options || [...input.options].some((option) => option.value === value);
      if (typeof value === "string" && offered) input.value = value;
    }
  }

  function remember() {
    const values = Object.fromEntries(settings().map((input) => [input.name, input.value]));
    try {
      localStorage.setItem(key, JSON.stringify({ ...values, keepSeed: keep.checked }));
    } catch { /* Storage may be switched off. */ }
  }

  function reroll() {
    seed.value = Math.floor(Math.random() * 1_000_000);
    remember();
  }

  function read() {
    const values = {};
    for (const input of settings()) {
      if (input.dataset.kind === "text") values[input.name] = input.value;
      else if (input.value !== "") values[input.name] = Number(input.value);
    }
    return values;
  }

  function open(changes) {
    const url = new URL(location.href);
    url.searchParams.delete("again");
    url.searchParams.set("do", mode);
    for (const [name, value] of Object.entries(changes)) url.searchParams.set(name, value);
    location.href = url.href;
  }

  async function submit(event) {
    event.preventDefault();
    if (!form.reportValidity()) return;
    const source = document.getElementById("source");
    if (soundField && !soundOptional && !source) {
      Studio.toast("Choose a sound to start from, or upload one.");
      return;
    }
    const button = form.querySelector("[type=submit]");
    const sounds = source ? { [soundField]: source.dataset.source } : {};
    button.disabled = true;
    try {
      remember();
      const request = { kind, pipeline: form.elements.pipeline.value, settings: read(), sounds };
      const job = await Studio.post("/jobs/submit", request);
      const card = await Studio.fragment(`/jobs/${job.id}/card`);
      const list = document.getElementById("jobs");
      list.querySelector("[data-placeholder]")?.remove();
      list.prepend(card);
      Studio.mount(list);
      Studio.showJob(job);
      Studio.announce("The job is in the queue.");
      if (!keep.checked) reroll();
    } catch (error) {
      Studio.toast(error.message);
    } finally {
      button.disabled = false;
    }
  }

  if (!form.dataset.again) restore();
  form.addEventListener("submit", submit);
  form.addEventListener("change", remember);
  document.getElementById("reroll").addEventListener("click", reroll);
  form.elements.pipeline.addEventListener("change", () => open({ pipeline: form.elements.pipeline.value }));
  document.getElementById("f-source")?.addEventListener("change", (event) => open({ sound: event.target.value }));
  document.getElementById("f-file")?.addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    event.target.disabled = true;
    Studio.announce("Uploading");
    try {
      const uploaded = await Studio.upload(file);
      open({ sound: uploaded.id });
    } catch (error) {
      Studio.toast(error.message);
      event.target.value = "";
    } finally {
      event.target.disabled = false;
    }
  });
})();
