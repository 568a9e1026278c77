// Everything is pushed: the page subscribes to its user's mailbox and to who is online, and asks for
// nothing again. A message stays in the mailbox until it was read here: to read is to acknowledge.
//
// A user's pages show the same, wherever they are. The newest has the mail; it tells the others what it gets, and they tell
// it what is read there. When it closes, its mail goes back to the mailbox and to the next page, by the broker's doing.

import { api, begin, forget, session, show, status, View } from "./page.js";

const MAILBOX_MAX = 2000;

// A user's newest page gets the mail first: consumers with a higher priority are served before others.
const priority = Math.floor(Date.now() / 1000) - 1_700_000_000;

class Page {
  constructor() {
    this.id = Math.random().toString(36).slice(2);
    // Whether this user has other pages; as long as it has none, nothing is told.
    this.others = false;
    // Unread posts by number, with what the broker wants acknowledged; of this connection only.
    this.mail = new Map();
    // Read, but not by a page that has the message: while there was no connection, or while it was on its way to another.
    this.readMeanwhile = new Set();
    // Changes of who is online that came before the list that they change; null when it is there.
    this.early = [];
    this.changes = 0;
    this.view = new View({ onRead: (ids) => this.onRead(ids), onFollow: () => this.load() });
    this.client = new StompJs.Client({
      brokerURL: session.websocket,
      connectHeaders: { host: "/", login: session.name, passcode: session.token },
      reconnectDelay: 250,
      maxReconnectDelay: 10_000,
      reconnectTimeMode: StompJs.ReconnectionTimeMode.EXPONENTIAL,
      connectionTimeout: 10_000,
      // So a cut cable is noticed on both ends.
      heartbeatIncoming: session.heartBeat,
      heartbeatOutgoing: session.heartBeat,
      // Browsers wait for the other end's goodbye, which does not come through a cut cable.
      discardWebsocketOnCommFailure: true,
      onConnect: () => this.onConnect(),
      onStompError: (frame) => this.onError(frame),
      onWebSocketClose: () => this.onClose(),
    });
    status("wait", "Connecting …");
    this.client.activate();
    // A browser may keep a page that was left, with its connection, in case its user goes back: until then he is not here.
    addEventListener("pagehide", () => this.client.deactivate({ force: true }));
    addEventListener("pageshow", (event) => event.persisted && this.client.activate());
  }

  onConnect() {
    // What was unread comes again: it was not acknowledged.
    this.mail.clear();
    this.view.setUnread([]);
    this.others = false;
    this.early = [];
    this.client.watchForReceipt("presence", () => this.load());
    this.client.subscribe("/exchange/presence", (message) => this.onPresence(message), {
      id: "presence",
      receipt: "presence",
      "x-max-length": "1000",
    });
    this.client.subscribe(this.pages(), (message) => this.onPages(JSON.parse(message.body)), {
      id: "pages",
      "x-max-length": "1000",
    });
    this.client.subscribe(`/amq/queue/mailbox.${session.name}`, (message) => this.onMail(message), {
      id: "mailbox",
      ack: "client-individual",
      "prefetch-count": String(MAILBOX_MAX),
      "x-priority": String(priority),
    });
    this.tell({ hello: priority, read: [...this.readMeanwhile] });
    status("live", "Live");
  }

  onClose() {
    status("wait", "Connecting …");
  }

  async onError(frame) {
    // The session may be over, or somebody logged out elsewhere.
    try {
      await api("GET", "/api/state");
      show(new Error(frame.headers.message));
    } catch (error) {
      if (error.status === 401) forget();
    }
  }

  // Once for each connection, and after following somebody.
  async load() {
    try {
      const state = await api("GET", "/api/state");
      // What was pushed meanwhile is newer than this list.
      if (!this.early && state.changes < this.changes) return await this.load();
      this.changes = state.changes;
      this.view.setPeople(state.people);
      this.view.addPosts(state.posts);
      const early = this.early ?? [];
      this.early = null;
      early.forEach((change) => this.apply(change));
    } catch (error) {
      if (error.status === 401) forget();
      else show(error);
    }
  }

  onPresence(message) {
    const change = JSON.parse(message.body);
    if (this.early) this.early.push(change);
    else this.apply(change);
  }

  apply({ user, online, change }) {
    if (change <= this.changes) return;
    this.changes = change;
    this.view.setOnline(user, online);
  }

  onMail(message) {
    const post = JSON.parse(message.body);
    if (this.readMeanwhile.delete(post.id)) {
      message.ack();
      return;
    }
    this.mail.set(post.id, message);
    this.view.addPosts([post]);
    this.view.addUnread(post.id);
    if (this.others) this.tell({ unread: [post] });
  }

  onRead(ids) {
    this.settle(ids);
    if (this.others && this.client.connected) this.tell({ read: ids });
  }

  settle(ids) {
    for (const id of ids) {
      const message = this.mail.get(id);
      this.mail.delete(id);
      if (this.client.connected && message) message.ack();
      else this.readMeanwhile.add(id);
    }
  }

  // The user's other pages

  // Only this user may read and write with this key.
  pages() {
    return `/exchange/pages/${session.name}`;
  }

  tell(what) {
    const body = JSON.stringify({ page: this.id, ...what });
    this.client.publish({ destination: this.pages(), body, headers: { "content-type": "application/json" } });
  }

  tellUnread() {
    this.tell({ unread: [...this.mail.keys()].map((id) => this.view.posts.get(id).post) });
  }

  onPages({ page, hello, read, unread }) {
    if (page === this.id) return;
    const first = !this.others;
    this.others = true;
    if (read) {
      this.settle(read);
      this.view.removeUnread(read);
    }
    if (unread) {
      const fresh = unread.filter((post) => !this.readMeanwhile.has(post.id));
      this.view.addPosts(fresh);
      fresh.forEach((post) => this.view.addUnread(post.id));
    }
    if (hello > priority) this.handOver();
    if (first || hello !== undefined) this.tellUnread();
  }

  // To a newer page, which tells what it gets.
  handOver() {
    const messages = [...this.mail.values()];
    this.mail.clear();
    this.view.setUnread([]);
    messages.forEach((message) => message.nack());
  }
}

// To be looked at in the browser's console.
begin(() => (window.page = new Page()));
