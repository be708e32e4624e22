// The library: adding sources, trying tracks again, and forgetting a track after its consequences were shown.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);

  async function busy(button, work) {
    button.disabled = true;
    try {
      return await work();
    } catch (error) {
      Studio.toast(error.message);
      return null;
    } finally {
      button.disabled = false;
    }
  }

  // What was just done is shown on the page that is opened next.
  const NEWS = "studio.library.news";

  function reload(news, address = location.href) {
    try {
      sessionStorage.setItem(NEWS, news);
    } catch { /* Storage may be switched off. */ }
    if (address === location.href) location.reload();
    else location.href = address;
  }

  document.addEventListener("DOMContentLoaded", () => {
    try {
      const news = sessionStorage.getItem(NEWS);
      sessionStorage.removeItem(NEWS);
      if (news) Studio.toast(news, "good");
    } catch { /* Storage may be switched off. */ }
  });

  // Add.

  const form = $("add");

  async function add() {
    const facts = {
      rights: form.elements.rights.value,
      licence: form.elements.licence.value,
      tags: form.elements.tags.value.split(",").map((tag) => tag.trim()).filter(Boolean),
    };
    const url = form.elements.url.value.trim();
    const files = [...($("add-file")?.files || [])];
    const progress = $("add-progress");
    if (!url && !files.length) throw new Error("Give an address, or choose files.");
    if (!facts.rights) {
      form.elements.rights.focus();
      throw new Error("Say what your rights are.");
    }
    let count = 0;
    try {
      if (url) {
        await Studio.post("/library/sources", { url, ...facts });
        form.elements.url.value = "";
        count += 1;
      }
      for (const [k, file] of files.entries()) {
        progress.textContent = `Receiving ${file.name} (${k + 1} of ${files.length})`;
        const uploaded = await Studio.upload(file);
        await Studio.post("/library/files", { upload: uploaded.id, ...facts });
        count += 1;
      }
    } catch (error) {
      if (count) Studio.toast(`${count} of ${files.length + (url ? 1 : 0)} added.`, "good");
      throw error;
    } finally {
      progress.textContent = "";
    }
    return count;
  }

  form?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const count = await busy(form.querySelector("[type=submit]"), add);
    if (count) reload(`${count} source${count === 1 ? "" : "s"} added. Tracks appear when they were looked at.`);
  });

  for (const area of document.querySelectorAll("[data-drop]")) {
    const input = $(area.dataset.drop);
    area.addEventListener("dragover", (event) => {
      event.preventDefault();
      area.classList.add("over");
    });
    area.addEventListener("dragleave", () => area.classList.remove("over"));
    area.addEventListener("drop", (event) => {
      event.preventDefault();
      area.classList.remove("over");
      input.files = event.dataTransfer.files;
    });
  }

  // Buttons.

  $("ingest")?.addEventListener("click", async (event) => {
    const run = await busy(event.target, () => Studio.post("/library/ingest"));
    if (run) Studio.toast("Dagster looks at all sources now; the run is in Jobs.", "good");
  });

  document.addEventListener("click", async (event) => {
    const again = event.target.closest("[data-retry]");
    if (again) {
      const { retry, stage } = again.dataset;
      const done = await busy(again, () => Studio.post(`/library/tracks/${retry}/retry`, { stage }));
      if (done) {
        Studio.toast(done.message, "good");
        again.replaceWith("Asked for");
      }
    }
    const source = event.target.closest("[data-remove-source]");
    if (source) {
      // A second click, so that one by mistake removes nothing.
      if (!source.dataset.sure) {
        source.dataset.sure = "1";
        source.textContent = "Really remove?";
        return;
      }
      const done = await busy(source, () => Studio.post("/library/sources/remove", { source_id: source.dataset.removeSource }));
      if (done) reload("The source is removed; its tracks stay.");
    }
  });

  // Forget.

  $("confirm-forget")?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { track } = event.target.dataset;
    $("forget-progress").textContent = "Removing; a stage that works on the track ends first.";
    const done = await busy(event.target.querySelector("[type=submit]"), () => Studio.post(`/library/tracks/${track}/forget`, { confirmed: track }));
    $("forget-progress").textContent = "";
    if (!done) return;
    const running = done.running.length ? ` Training goes on (${done.running.join(", ")}): forget it again afterwards.` : "";
    reload(`The track is forgotten; ${done.removed} files and folders are gone. ${done.remaining}${running}`, `${Studio.root}/library`);
  });
})();
