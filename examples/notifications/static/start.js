// One page, two ways to hear of news: the broker pushes them or, with `?poll`, the page asks for them.

const way = new URLSearchParams(location.search).has("poll") ? "poll" : "push";
document.getElementById(`about-${way}`).hidden = false;
await import(`./${way}.js`);
