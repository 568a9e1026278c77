// What both ways share: the session, the HTTP API, and what is seen.

const element = (id) => document.getElementById(id);

// In the tab's own storage: two tabs can be two people.
export const session = JSON.parse(sessionStorage.getItem("session") ?? "null") ?? {};

function keep(value) {
  Object.assign(session, value);
  sessionStorage.setItem("session", JSON.stringify(session));
}

let requests = 0;

export async function api(method, path, body) {
  element("requests").textContent = String(++requests);
  const response = await fetch(path, {
    method,
    headers: {
      ...(session.token && { Authorization: `Bearer ${session.token}` }),
      ...(body && { "Content-Type": "application/json" }),
    },
    body: body && JSON.stringify(body),
  });
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) {
    const error = new Error(answer?.error ?? `The server answered ${response.status}.`);
    error.status = response.status;
    throw error;
  }
  return answer;
}

export function show(error) {
  element("error").textContent = error?.message ?? "";
  element("error").hidden = !error;
}

export function status(state, text) {
  element("status").dataset.state = state;
  element("status").textContent = text;
}

// Calls `start` when somebody is logged in: now, or after the form was sent.
export function begin(start) {
  const enter = () => {
    show(null);
    element("name").textContent = session.name;
    element("login").hidden = true;
    element("me").hidden = element("app").hidden = false;
    start();
  };
  element("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    try {
      const password = form.get("password");
      keep(await api("POST", "/api/login", { name: form.get("name"), password }));
      enter();
    } catch (error) {
      show(error);
    }
  });
  element("logout").addEventListener("click", async () => {
    await api("POST", "/api/logout").catch(() => {});
    forget();
  });
  if (session.token) enter();
}

// The session is over.
export function forget() {
  sessionStorage.removeItem("session");
  location.reload();
}

// As many as the server gives at a time.
const PAGE_POSTS = 50;

const time = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

// The people and the feed. `onRead(ids)` is told of posts that were read.
export class View {
  constructor({ onRead, onFollow }) {
    this.people = new Map();
    this.posts = new Map();
    this.unread = new Set();
    this.complete = false;
    this.onRead = onRead;
    this.onFollow = onFollow;
    element("read-all").addEventListener("click", () => this.read([...this.unread]));
    element("compose").addEventListener("submit", (event) => this.compose(event));
    element("text").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form.requestSubmit();
    });
    element("older").addEventListener("click", () => this.older());
  }

  // People

  setPeople(people) {
    this.people = new Map(people.map((person) => [person.name, person]));
    this.drawPeople();
  }

  setOnline(name, online) {
    if (name === session.name) return;
    const known = this.people.get(name) ?? { name, followed: false };
    this.people.set(name, { ...known, online });
    this.drawPeople();
  }

  drawPeople() {
    const counts = this.unreadByAuthor();
    const sorted = [...this.people.values()].sort(
      (a, b) => b.followed - a.followed || (a.name < b.name ? -1 : 1),
    );
    const list = element("people");
    const focused = document.activeElement?.closest?.("#people li")?.dataset.name;
    list.replaceChildren(...sorted.map((person) => this.drawPerson(person, counts.get(person.name))));
    if (focused) list.querySelector(`[data-name="${focused}"] button`)?.focus();
    const online = sorted.filter((person) => person.online).length;
    element("online").textContent = sorted.length ? `${online} of ${sorted.length} online` : "";
    element("nobody").hidden = sorted.length > 0;
  }

  drawPerson({ name, online, followed }, unread) {
    const item = document.createElement("li");
    item.dataset.name = name;
    item.dataset.online = String(Boolean(online));
    const dot = item.appendChild(document.createElement("span"));
    dot.className = "dot";
    const who = item.appendChild(document.createElement("span"));
    who.className = "who";
    who.textContent = name;
    who.appendChild(document.createElement("small")).textContent = online ? "online" : "offline";
    const badge = item.appendChild(document.createElement("span"));
    badge.className = "badge";
    badge.textContent = String(unread ?? 0);
    badge.title = "unread";
    badge.hidden = !unread;
    const button = item.appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = followed ? "Following" : "Follow";
    button.setAttribute("aria-pressed", String(followed));
    button.setAttribute("aria-label", `Follow ${name}`);
    button.addEventListener("click", async () => {
      try {
        await api(followed ? "DELETE" : "PUT", `/api/following/${name}`);
        await this.onFollow();
        show(null);
      } catch (error) {
        show(error);
      }
    });
    return item;
  }

  // The feed, the newest first

  addPosts(posts) {
    for (const post of posts) this.add(post);
    element("empty").hidden = this.posts.size > 0;
    element("older").hidden = this.complete || this.posts.size < PAGE_POSTS;
  }

  add(post) {
    if (this.posts.has(post.id)) return;
    const item = document.createElement("li");
    item.dataset.id = String(post.id);
    const head = item.appendChild(document.createElement("p"));
    const author = head.appendChild(document.createElement("span"));
    author.className = "author";
    author.textContent = post.author;
    const when = head.appendChild(document.createElement("time"));
    when.dateTime = new Date(post.at * 1000).toISOString();
    when.textContent = time.format(post.at * 1000);
    item.appendChild(document.createElement("p")).textContent = post.text;
    const button = item.appendChild(document.createElement("button"));
    button.type = "button";
    button.className = "quiet";
    button.textContent = "Mark read";
    item.addEventListener("click", () => this.read([post.id]));
    this.posts.set(post.id, { post, item });
    const next = [...element("feed").children].find((other) => Number(other.dataset.id) < post.id);
    element("feed").insertBefore(item, next ?? null);
  }

  setUnread(ids) {
    this.unread = new Set(ids);
    this.drawUnread();
  }

  addUnread(id) {
    this.unread.add(id);
    this.drawUnread();
  }

  // They were read on another page.
  removeUnread(ids) {
    ids.forEach((id) => this.unread.delete(id));
    this.drawUnread();
  }

  read(ids) {
    const fresh = ids.filter((id) => this.unread.delete(id));
    if (!fresh.length) return;
    this.onRead(fresh);
    this.drawUnread();
  }

  unreadByAuthor() {
    const counts = new Map();
    for (const id of this.unread) {
      const author = this.posts.get(id)?.post.author;
      counts.set(author, (counts.get(author) ?? 0) + 1);
    }
    return counts;
  }

  drawUnread() {
    for (const [id, { item }] of this.posts) item.classList.toggle("unread", this.unread.has(id));
    const count = this.unread.size;
    element("unread").textContent = String(count);
    element("unread").toggleAttribute("data-some", count > 0);
    element("read-all").disabled = count === 0;
    document.title = document.title.replace(/^(\(\d+\) )?/, count ? `(${count}) ` : "");
    this.drawPeople();
  }

  async compose(event) {
    event.preventDefault();
    const text = element("text");
    try {
      const post = await api("POST", "/api/posts", { text: text.value });
      text.value = "";
      this.addPosts([post]);
      show(null);
    } catch (error) {
      show(error);
    }
  }

  async older() {
    try {
      const before = Math.min(...this.posts.keys());
      const { posts } = await api("GET", `/api/posts?before=${before}`);
      this.complete = posts.length < PAGE_POSTS;
      this.addPosts(posts);
    } catch (error) {
      show(error);
    }
  }
}
