// Jobs: cards of new jobs, and of Dagster's runs, which are asked for every few seconds.
"use strict";

(() => {
  const EVERY_MS = 4000;
  const list = document.getElementById("all-jobs");
  const problem = document.querySelector("[data-dagster-error]");

  function add(card) {
    list.querySelector("[data-placeholder]")?.remove();
    list.prepend(card);
    Studio.mount(list);
  }

  // Of another tab, or of a program.
  document.addEventListener("studio:job", async ({ detail }) => {
    if (list.querySelector(`[data-job="${CSS.escape(detail.id)}"]`)) return;
    try {
      const card = await Studio.fragment(`/jobs/${detail.id}/card`);
      if (!list.querySelector(`[data-job="${CSS.escape(detail.id)}"]`)) add(card);
    } catch (error) {
      Studio.toast(error.message);
    }
  });

  async function poll() {
    if (document.hidden) return;
    let runs;
    try {
      runs = await Studio.fragment(list.dataset.poll);
    } catch {
      return; // The next answer may come: the server may just be restarted.
    }
    const notice = runs.querySelector(".notice");
    problem.textContent = notice?.textContent ?? "";
    problem.hidden = !notice;
    for (const card of [...runs.querySelectorAll("[data-run]")].reverse()) {
      const shown = document.getElementById(card.id);
      if (!shown) add(card);
      // What has the focus is replaced only when there is something new.
      else if (shown.textContent !== card.textContent) shown.replaceWith(card);
    }
  }

  if (list.dataset.poll) setInterval(poll, EVERY_MS);
})();
