// The back end: signs users in, shows each her files, and mints links for those that are hers.
//
//   cargo run                              in one terminal
//   node examples/front-end/server.js      in another

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';

import { faultPage, filesPage, signInPage } from './pages.js';
import { checkPassword, fileOf, filesOf } from './people.js';
import { begin, end, userOf } from './sessions.js';
import { readSettings } from './settings.js';

const LONGEST_BODY = 4096;
const STATIC = {
  '/style.css': ['public/style.css', 'text/css; charset=utf-8'],
  '/app.js': ['public/app.js', 'text/javascript; charset=utf-8'],
  '/icon.svg': ['public/icon.svg', 'image/svg+xml'],
  '/download.js': ['../../clients/javascript/src/download.js', 'text/javascript; charset=utf-8'],
};

/** An answer that is no success. */
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The fields of every answer. The page may talk to itself and to the gateway, and runs no script that it does not serve. */
function commonHeaders(gateway) {
  return {
    'content-security-policy': `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; `
      + `connect-src 'self' ${gateway}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'same-origin',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'cache-control': 'no-store',
  };
}

/** Mints a link for a file of this user: short, equal for a while, under her name for it, with an id for the audit log. */
function mint(signer, user, id) {
  const file = fileOf(user, id);
  if (!file) throw new Refusal(404, 'There is no such file among yours.');
  return signer.mint({ url: file.url, filename: file.name, id: `${user}-${file.id}`, expiresIn: 300, alignTo: 60 });
}

/** Only this site's own pages may change something: browsers send Origin with every POST (Fetch standard, section 3.2). */
function checkOrigin(request) {
  let origin;
  try {
    origin = new URL(request.headers.origin);
  } catch {
    throw new Refusal(403, 'This request did not come from this site.');
  }
  if (origin.host !== request.headers.host) throw new Refusal(403, 'This request came from another site.');
}

async function readForm(request) {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) {
    text += chunk;
    if (text.length > LONGEST_BODY) throw new Refusal(413, 'The form is too long.');
  }
  return new URLSearchParams(text);
}

async function signIn(request) {
  const form = await readForm(request);
  const user = form.get('user') ?? '';
  if (!await checkPassword(user, form.get('password') ?? '')) return html(403, signInPage(true));
  return { status: 303, headers: { location: '/', 'set-cookie': begin(user) } };
}

const html = (status, body) => ({ status, headers: { 'content-type': 'text/html; charset=utf-8' }, body });
const json = (status, value) => ({ status, headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) });

async function answer(request, { signer }) {
  const [pathname] = request.url.split('?');
  const route = `${request.method === 'HEAD' ? 'GET' : request.method} ${pathname}`;
  const user = userOf(request);
  if (request.method === 'POST') checkOrigin(request);
  const [file, type] = Object.hasOwn(STATIC, pathname) ? STATIC[pathname] : [];
  if (file && route.startsWith('GET ')) {
    return { status: 200, headers: { 'content-type': type }, body: await readFile(new URL(file, import.meta.url)) };
  }
  if (route === 'GET /') return html(200, user ? filesPage(user, filesOf(user)) : signInPage(false));
  if (route === 'POST /sign-in') return signIn(request);
  if (route === 'POST /sign-out') return { status: 303, headers: { location: '/', 'set-cookie': end(request) } };

  const [, method, id, action] = /^(GET|POST) \/files\/([a-z]+)\/(download|link)$/.exec(route) ?? [];
  const known = (method === 'GET' && action === 'download') || (method === 'POST' && action === 'link');
  if (!known) throw new Refusal(404, 'There is nothing here.');
  if (!user) throw new Refusal(401, 'Sign in first.');
  const minted = await mint(signer, user, id);
  if (action === 'link') return json(200, { link: minted.link, exp: minted.exp });
  return { status: 303, headers: { location: minted.link } };
}

/** A refusal for a page, or for a script that asked. */
function refuse(request, error) {
  if (!(error instanceof Refusal)) {
    console.error(error);
    error = new Refusal(500, 'Something went wrong here; the log says what.');
  }
  if (request.url.endsWith('/link')) return json(error.status, { error: error.message });
  return html(error.status, faultPage(error.status === 404 ? 'Not found' : 'Refused', error.message, userOf(request)));
}

function start(settings) {
  const common = commonHeaders(settings.gateway);
  const server = createServer(async (request, response) => {
    const { status, headers, body } = await answer(request, settings).catch((error) => refuse(request, error));
    response.writeHead(status, { ...common, ...headers });
    response.end(request.method === 'HEAD' ? undefined : body);
  });
  server.on('error', (error) => {
    const address = `\`${settings.host}:${settings.port}\``;
    console.error(`examples/front-end: cannot listen on ${address} (${error.code}); set LISTEN to another address`);
    process.exitCode = 1;
  });
  server.listen(settings.port, settings.host, () => {
    const address = `http://${settings.host}:${server.address().port}`;
    console.log(`The front end is running: ${address}  (gateway ${settings.gateway}; stop with Ctrl-C)`);
  });
}

try {
  start(readSettings(process.env));
} catch (error) {
  console.error(`examples/front-end: ${error.message}`);
  process.exitCode = 2;
}
