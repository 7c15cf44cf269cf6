// Shows what /health/ready says about the platform, and whether the remotes load.

const WORDS = {
  authService: "Sign-in and accounts",
  paymentsService: "Payments",
  adminService: "Administration",
  profileService: "Profiles",
  rabbitmq: "Event hub",
  redis: "Cache",
};
const REMOTES = ["auth", "payments", "admin", "profile"];
const PAUSE_MS = 15000;

const overall = document.getElementById("overall");
const parts = document.getElementById("parts");
const asked = document.getElementById("asked");
const remotes = document.getElementById("remotes");

function row(name, text, state) {
  const item = document.createElement("li");
  const label = document.createElement("span");
  const value = document.createElement("span");
  label.textContent = name;
  value.textContent = text;
  value.dataset.state = state;
  item.dataset.testid = `part-${name}`;
  item.append(label, value);
  return item;
}

function say(text, state) {
  overall.textContent = text;
  overall.dataset.state = state;
}

async function look() {
  let reply;
  try {
    reply = await fetch("/health/ready", { cache: "no-store", headers: { Accept: "application/json" } });
  } catch {
    say("The platform cannot be reached.", "down");
    parts.replaceChildren();
    return;
  }
  const body = await reply.json().catch(() => null);
  const checks = body?.data?.checks ?? body?.error?.details?.checks ?? {};
  const rows = Object.entries(checks).map(([name, check]) =>
    row(WORDS[name] ?? name, check.status === "up" ? "up" : "down", check.status === "up" ? "up" : "down"),
  );
  parts.replaceChildren(...rows);
  const when = new Date().toLocaleTimeString();
  const id = reply.headers.get("X-Correlation-ID");
  asked.textContent = `Asked at ${when}${id ? ` (${id})` : ""}.`;
  if (reply.status === 429) {
    say("Asked too often; looking again later.", "degraded");
  } else if (!reply.ok) {
    say("The platform is not ready.", "down");
  } else if (body?.data?.status === "degraded") {
    say("The platform works with parts missing.", "degraded");
  } else {
    say("The platform is ready.", "up");
  }
}

async function loadRemotes() {
  const rows = await Promise.all(
    REMOTES.map(async (name) => {
      try {
        const remote = await import(`/mfe/${name}/remoteEntry.js`);
        return row(name, remote.describe(), "up");
      } catch {
        return row(name, "does not load", "down");
      }
    }),
  );
  remotes.replaceChildren(...rows);
}

document.getElementById("again").addEventListener("click", look);
document.addEventListener("visibilitychange", () => document.hidden || look());
setInterval(() => document.hidden || look(), PAUSE_MS);
await Promise.all([look(), loadRemotes()]);
if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register("/sw.js").catch(() => {});
}
