// The form of Transform: sounds are dropped, recorded or chosen into slots; jobs show before and after.
"use strict";

(() => {
  const form = document.getElementById("transform");
  if (!form) return;
  const { kind } = form.dataset;
  const key = `studio.transform.${kind}`;
  const slots = [...form.querySelectorAll("[data-slot]")];
  const settings = () => [...form.elements].filter((e) => e.name && e.dataset.setting !== "no");
  const idsOf = (slot) => [...slot.querySelectorAll("[data-sound-id]")].map((element) => element.dataset.soundId);
  const say = (slot, text) => { slot.querySelector("[data-slot-status]").textContent = text; };
  const tag = form.elements.style_tag;

  // The chosen sounds are in the address, so that a reload and a link keep them.
  function rememberSounds() {
    const url = new URL(location.href);
    for (const name of ["again", "sound"]) url.searchParams.delete(name);
    url.searchParams.set("do", kind);
    for (const slot of slots) {
      const ids = idsOf(slot);
      if (ids.length) url.searchParams.set(slot.dataset.slot, ids.join(","));
      else url.searchParams.delete(slot.dataset.slot);
    }
    history.replaceState(null, "", url);
  }

  function clear(slot) {
    slot.querySelector("[data-chosen]").replaceChildren();
    rememberSounds();
  }

  async function choose(slot, id) {
    const part = await Studio.fragment(`/transform/sounds/${encodeURIComponent(id)}`);
    const list = slot.querySelector("[data-chosen]");
    if (!("multiple" in slot.dataset)) list.replaceChildren();
    if (!idsOf(slot).includes(id)) list.append(part);
    Studio.mount(list);
    rememberSounds();
    // Timbre comes from a sound or from a tag.
    if (slot.dataset.slot === "style" && tag) tag.value = "";
  }

  async function receive(slot, files) {
    const wanted = "multiple" in slot.dataset ? files : files.slice(0, 1);
    for (const [k, file] of wanted.entries()) {
      say(slot, wanted.length > 1 ? `Receiving ${file.name} (${k + 1} of ${wanted.length})` : `Receiving ${file.name}`);
      try {
        const uploaded = await Studio.upload(file);
        await choose(slot, uploaded.id);
      } catch (error) {
        Studio.toast(error.message);
      }
    }
    say(slot, "");
  }

  // Recording.

  async function record(slot, button) {
    const label = button.querySelector("[data-record-label]");
    const level = slot.querySelector("[data-record-level]");
    if (button.recording) {
      const recording = button.recording;
      button.recording = null;
      const file = await recording.stop();
      level.hidden = true;
      label.textContent = "Record";
      button.setAttribute("aria-pressed", "false");
      await receive(slot, [file]);
      return;
    }
    try {
      for (const audio of document.querySelectorAll("audio")) audio.pause();
      button.recording = await Recorder.start((seconds, peak) => {
        label.textContent = `Stop ${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
        level.value = peak;
      });
      level.hidden = false;
      button.setAttribute("aria-pressed", "true");
      Studio.announce("Recording");
    } catch (error) {
      Studio.toast(error.message);
    }
  }

  for (const slot of slots) {
    slot.querySelector("input[type=file]").addEventListener("change", async (event) => {
      await receive(slot, [...event.target.files]);
      event.target.value = "";
    });
    slot.querySelector("[data-record]").addEventListener("click", (event) => record(slot, event.currentTarget));
    slot.querySelector("[data-pick-sound]").addEventListener("change", async (event) => {
      const id = event.target.value;
      event.target.value = "";
      try {
        if (id) await choose(slot, id);
      } catch (error) {
        Studio.toast(error.message);
      }
    });
    slot.addEventListener("click", (event) => {
      const button = event.target.closest("[data-unchoose]");
      if (!button) return;
      button.closest("[data-sound-id]").remove();
      rememberSounds();
      slot.querySelector("[data-pick-sound]").focus();
    });
    slot.addEventListener("dragover", (event) => {
      event.preventDefault();
      slot.classList.add("over");
    });
    slot.addEventListener("dragleave", (event) => {
      if (!slot.contains(event.relatedTarget)) slot.classList.remove("over");
    });
    slot.addEventListener("drop", (event) => {
      event.preventDefault();
      slot.classList.remove("over");
      receive(slot, [...event.dataTransfer.files]);
    });
  }
  // A file that misses a slot must not replace the page.
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());

  // Settings.

  function restore() {
    let values = {};
    try {
      values = JSON.parse(localStorage.getItem(key)) || {};
    } catch { /* Storage may be switched off, or hold what an earlier version wrote. */ }
    for (const input of settings()) {
      if (input.name !== "seed" && typeof values[input.name] === "string") input.value = values[input.name];
      // A tag of another release.
      if (input.selectedIndex === -1) input.value = "";
    }
  }

  function remember() {
    try {
      localStorage.setItem(key, JSON.stringify(Object.fromEntries(settings().map((input) => [input.name, input.value]))));
    } catch { /* Storage may be switched off. */ }
  }

  function read() {
    const values = {};
    for (const input of settings()) {
      // An empty choice is the default of the request.
      if (input.value === "") continue;
      values[input.name] = input.dataset.kind === "text" ? input.value : Number(input.value);
    }
    return values;
  }

  // Jobs.

  /** What to submit: a job, or one for each sound of a slot that takes several. */
  function requests() {
    const pipeline = form.elements.pipeline.value;
    const sounds = {};
    for (const slot of slots) {
      const ids = idsOf(slot);
      const needed = !("optional" in slot.dataset) || (slot.dataset.slot === "style" && !tag?.value);
      if (!ids.length && needed) {
        slot.querySelector("[data-pick-sound]").focus();
        throw new Error(`Choose a sound for “${slot.dataset.title}”.`);
      }
      if (ids.length) sounds[slot.dataset.slot] = ids;
    }
    const [[name, ids], ...rest] = Object.entries(sounds);
    const others = Object.fromEntries(rest.map(([other, [id]]) => [other, id]));
    return ids.map((id) => ({ kind, pipeline, settings: read(), sounds: { ...others, [name]: id } }));
  }

  async function submit(event) {
    event.preventDefault();
    if (!form.reportValidity()) return;
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      remember();
      for (const request of requests()) {
        const job = await Studio.post("/jobs/submit", request);
        const card = await Studio.fragment(`/transform/jobs/${job.id}/card`);
        const list = document.getElementById("jobs");
        list.querySelector("[data-placeholder]")?.remove();
        list.prepend(card);
        Studio.mount(list);
        Studio.showJob(job);
      }
      Studio.announce("In the queue.");
      if (form.elements.seed && !form.dataset.again) form.elements.seed.value = Math.floor(Math.random() * 1_000_000);
    } catch (error) {
      Studio.toast(error.message);
    } finally {
      button.disabled = false;
    }
  }

  const adding = new Set();

  /** Adds the sounds that a job has made since its card was loaded; what plays is not touched. */
  async function addRows(card, made) {
    const id = card.dataset.job;
    if (adding.has(id) || Number(card.dataset.made) >= made) return;
    adding.add(id);
    try {
      const fresh = (await Studio.fragment(`/transform/jobs/${encodeURIComponent(id)}/card`)).querySelector("[data-job]");
      const rows = card.querySelector("[data-rows]");
      for (const row of fresh.querySelectorAll("[data-row]")) {
        if (!rows.querySelector(`[data-row="${CSS.escape(row.dataset.row)}"]`)) rows.append(row);
      }
      card.dataset.made = fresh.dataset.made;
      Studio.mount(rows);
    } catch (error) {
      Studio.toast(error.message);
    } finally {
      adding.delete(id);
    }
  }

  document.addEventListener("studio:job", async ({ detail }) => {
    const card = document.querySelector(`[data-transform-job][data-job="${CSS.escape(detail.id)}"]`);
    if (card) await addRows(card, detail.made);
  });

  if (!form.dataset.again) restore();
  form.addEventListener("submit", submit);
  form.addEventListener("change", remember);
  tag?.addEventListener("change", () => {
    const style = form.querySelector('[data-slot="style"]');
    if (tag.value && style) clear(style);
  });
  form.elements.pipeline.addEventListener("change", () => {
    const url = new URL(location.href);
    url.searchParams.delete("again");
    url.searchParams.set("pipeline", form.elements.pipeline.value);
    location.href = url.href;
  });
})();
