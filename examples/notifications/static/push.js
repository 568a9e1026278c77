// Everything is pushed: the page subscribes to its user's mailbox and to who is online, and asks for
// nothing again. A message stays in the mailbox until it was read here: to read is to acknowledge.

import { api, begin, forget, session, show, status, View } from "./page.js";

const MAILBOX_MAX = 2000;

// A user's newest page gets the mail first: consumers with a higher priority are served before others.
const priority = Math.floor(Date.now() / 1000) - 1_700_000_000;

class Page {
  constructor() {
    // Unread posts by number, with what the broker wants acknowledged; of this connection only.
    this.mail = new Map();
    // Read while there was no connection.
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
    this.early = [];
    this.client.watchForReceipt("presence", () => this.load());
    this.client.subscribe("/exchange/presence", (message) => this.onPresence(message), {
      id: "presence",
      receipt: "presence",
      "x-max-length": "1000",
    });
    this.client.subscribe(`/amq/queue/mailbox.${session.name}`, (message) => this.onMail(message), {
      id: "mailbox",
      ack: "client-individual",
      "prefetch-count": String(MAILBOX_MAX),
      "x-priority": String(priority),
    });
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
  }

  onRead(ids) {
    for (const id of ids) {
      const message = this.mail.get(id);
      this.mail.delete(id);
      if (this.client.connected && message) message.ack();
      else this.readMeanwhile.add(id);
    }
  }
}

// To be looked at in the browser's console.
begin(() => (window.page = new Page()));
