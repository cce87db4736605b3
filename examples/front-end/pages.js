// The HTML. All of it is here, works without scripts, and escapes what it is given.

import { DEMO } from './people.js';

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const signOutForm = (user) => `<form method="post" action="/sign-out">
<span>Signed in as <b>${escape(user)}</b></span> <button class="quiet">Sign out</button>
</form>`;

function page(title, user, body) {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escape(title)} · Lockkeeper</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/style.css">
<script type="module" src="/app.js"></script>
</head>
<body>
<header>
<p class="brand"><img src="/icon.svg" alt="" width="28" height="28"> Lockkeeper</p>
${user ? signOutForm(user) : ''}
</header>
<main>
<h1>${escape(title)}</h1>
${body}
</main>
<footer>
<p>An example of signed downloads through Sluicegate. Each link is good for minutes, and the secret never leaves the back
end.</p>
</footer>
</body>
</html>
`;
}

/** The form to sign in with; `wrong` after an attempt that failed. */
export function signInPage(wrong) {
  const users = DEMO.map(({ user, password }) => `<li><code>${escape(user)}</code> with <code>${escape(password)}</code></li>`);
  return page('Sign in', undefined, `<form method="post" action="/sign-in" class="card">
${wrong ? '<p class="fault" role="alert">This name and password do not belong together.</p>' : ''}
<label for="user">Name</label>
<input id="user" name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Sign in</button>
</form>
<section aria-labelledby="demo">
<h2 id="demo">Users of this demo</h2>
<ul>${users.join('')}</ul>
</section>`);
}

/** A user's files. */
export function filesPage(user, files) {
  return page('Your files', user, `<ul class="files">${files.map(fileItem).join('\n')}</ul>`);
}

function fileItem({ id: fileId, name, size }) {
  const id = escape(fileId);
  return `<li class="card" data-file="${id}">
<div class="what"><h2 id="name-${id}">${escape(name)}</h2><p class="size">${readable(size)}</p></div>
<div class="actions">
<a class="button" href="/files/${id}/download" id="link-${id}" aria-labelledby="link-${id} name-${id}">Download</a>
<button type="button" class="quiet" data-action="progress" id="button-${id}" aria-labelledby="button-${id} name-${id}" hidden>
Download with progress</button>
</div>
<div class="progress" hidden>
<progress aria-labelledby="name-${id}" max="1" value="0"></progress>
<p role="status"></p>
</div>
</li>`;
}

/** A size as people read it. */
export function readable(bytes) {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  const step = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return step === 0 ? `${bytes} bytes` : `${(bytes / 1000 ** step).toFixed(1)} ${units[step]}`;
}

/** A refusal as a page. */
export function faultPage(title, text, user) {
  return page(title, user, `<p>${escape(text)}</p><p><a href="/">Back to the files</a></p>`);
}
