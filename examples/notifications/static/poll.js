// The same without a broker's push: the page asks every few seconds, whether there is news or not.
// What is unread is known to this page only.

import { api, begin, forget, status, View } from "./page.js";

class Page {
  constructor() {
    this.newest = 0;
    this.loaded = false;
    this.view = new View({ onRead: () => {}, onFollow: () => this.load() });
    this.run();
  }

  async run() {
    const seconds = document.getElementById("seconds");
    for (;;) {
      try {
        await (this.loaded ? this.poll() : this.load());
        status("live", `Asks every ${seconds.value} s`);
      } catch (error) {
        if (error.status === 401) return forget();
        status("wait", "The server does not answer");
      }
      await new Promise((resolve) => setTimeout(resolve, seconds.value * 1000));
    }
  }

  async load() {
    const { people, posts } = await api("GET", "/api/state");
    this.loaded = true;
    this.view.setPeople(people);
    this.take(posts);
  }

  async poll() {
    const { online, followed, posts } = await api("GET", `/api/poll?after=${this.newest}`);
    for (const name of followed) this.view.setOnline(name, online.includes(name));
    const fresh = posts.filter((post) => !this.view.posts.has(post.id));
    this.take(posts);
    for (const post of fresh) this.view.addUnread(post.id);
  }

  take(posts) {
    this.view.addPosts(posts);
    for (const post of posts) this.newest = Math.max(this.newest, post.id);
  }
}

begin(() => new Page());
