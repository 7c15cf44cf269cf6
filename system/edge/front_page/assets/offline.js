// Goes back to the page as soon as there is a network again (R8.46).

const PAUSE_MS = 10000;

async function again() {
  const reply = await fetch("/health/live", { cache: "no-store" }).catch(() => null);
  if (reply) {
    location.replace(location.pathname === "/offline.html" ? "/" : location.href);
  }
}

document.getElementById("again").addEventListener("click", again);
setInterval(again, PAUSE_MS);
