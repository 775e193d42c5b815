// Keeps the status page alive: parts that changed are put in place, a lost connection is said in words, and repair
// commands can be copied. Without this file the page reloads itself.
"use strict";

(() => {
  const RETRY_MS = 5000;
  const COPIED_MS = 2000;
  const known = new Map(); // each live part as the server last sent it
  let source = null;
  let retry = 0;

  const live = (root, name) => root.querySelector(`[data-live="${name}"]`);

  function place(part) {
    const name = part.dataset.live;
    const here = live(document, name);
    if (!here || known.get(name) === part.innerHTML) return;
    const focused = here.contains(document.activeElement) ? document.activeElement.id : "";
    known.set(name, part.innerHTML);
    here.replaceChildren(...part.childNodes);
    if (focused) document.getElementById(focused)?.focus();
  }

  function show(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html").querySelector("[data-page]");
    if (fresh.dataset.version !== document.body.dataset.version) return location.reload();
    fresh.querySelectorAll("[data-live]").forEach(place);
    document.title = fresh.dataset.title;
    const icon = document.querySelector("link[rel=icon]");
    if (icon.getAttribute("href") !== fresh.dataset.icon) icon.setAttribute("href", fresh.dataset.icon);
    connected(true);
  }

  function connected(yes) {
    const lost = document.getElementById("lost");
    document.getElementById("pulse").dataset.state = yes ? "live" : "lost";
    if (lost.hidden === yes) return;
    const since = live(document, "as-of").textContent.trim();
    lost.textContent = yes ? "" : `No connection to the agent. What you see is from ${since}; trying again.`;
    lost.hidden = yes;
  }

  function listen() {
    clearTimeout(retry);
    source?.close();
    source = new EventSource(document.body.dataset.events);
    source.addEventListener("overview", (event) => show(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      connected(false);
      if (source.readyState === EventSource.CLOSED) again();
    });
  }

  // The agent answers, but not with events: it is about to stop, or the log-in is over and the page says how to renew it.
  async function again() {
    retry = setTimeout(listen, RETRY_MS);
    const answer = await fetch(location.href, { method: "HEAD" }).catch(() => null);
    if (answer?.status === 401) location.reload();
  }

  function rest() {
    clearTimeout(retry);
    source?.close();
    document.getElementById("pulse").dataset.state = "still";
  }

  async function copy(button) {
    const code = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // Without TLS a browser has no clipboard for us: select the text and use the old command.
      getSelection().selectAllChildren(code);
      if (!document.execCommand("copy")) return;
    }
    const word = button.querySelector("[data-word]");
    word.textContent = "Copied";
    setTimeout(() => (word.textContent = "Copy"), COPIED_MS);
  }

  document.documentElement.classList.add("scripted");
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });

  if (!document.body.dataset.events) return;
  document.querySelectorAll("[data-live]").forEach((part) => known.set(part.dataset.live, part.innerHTML));
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : listen()));
  if (!document.hidden) listen();
})();
