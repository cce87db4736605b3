// The form that builds a link, what was signed, and the download that tries it.

import { call, complain, element, quoted, settle, size } from './server.js';
import { download } from './download.js';

const byId = (id) => document.getElementById(id);

/** What stops the download under way. Another one takes its place; a new link does not. */
let running;

/** What the form asks for, in the words of `mint`; fields left empty are left out. */
function options(form) {
  const text = (name) => form.elements[name].value.trim();
  const asked = { url: text('url'), expires_in: Number(text('span')) * Number(text('unit')) };
  for (const name of ['disposition', 'id', 'ip']) {
    if (text(name)) asked[name] = text(name);
  }
  // Spaces at the ends of a name may be meant.
  if (form.elements.filename.value) asked.filename = form.elements.filename.value;
  if (text('align_to')) asked.align_to = Number(text('align_to'));
  if (text('not_before')) asked.not_before = Math.floor(new Date(text('not_before')).getTime() / 1000);
  return asked;
}

/** In single quotes nothing is special to a shell but the quote itself; a link has none. */
const curlLine = (link) => `curl -fOJ '${link}'`;

function show(made) {
  const link = `${location.origin}/?${made.query}`;
  byId('link').value = link;
  byId('plain').href = link;
  byId('string-to-sign').textContent = made.string_to_sign;
  byId('signature').textContent = made.signature;
  byId('curl').textContent = curlLine(link);
  byId('built-end').textContent = `Good until ${new Date(made.exp * 1000).toLocaleString()} (exp=${made.exp}).`;
  const refused = byId('built-refused');
  refused.hidden = !made.refused;
  if (made.refused) refused.replaceChildren(...quoted(`Signed, but the gateway will refuse it: ${made.refused.reason} (\`${made.refused.code}\`)`));
  byId('built').hidden = false;
  byId('built').focus();
}

/** Downloads with the client library, which resumes and checks; the file is saved when it is whole. */
async function transfer(link, stop) {
  const [bar, text, name] = [byId('progress'), byId('transfer-text'), byId('transfer-name')];
  const say = (words) => { if (running === stop) text.textContent = words; };
  byId('transfer').hidden = false;
  byId('stop').hidden = false;
  bar.removeAttribute('value');
  name.textContent = 'Download';
  say('asking …');
  const began = performance.now();
  try {
    const file = await download(link, {
      signal: stop.signal,
      onProgress({ received, total }) {
        const seconds = Math.max((performance.now() - began) / 1000, 0.001);
        if (total) bar.value = (received / total) * 100;
        say(`${size(received)} of ${total ? size(total) : 'an unknown length'}, ${size(Math.round(received / seconds))}/s`);
      },
    });
    const saved = file.filename ?? 'download';
    name.textContent = saved;
    const blob = await file.blob();
    bar.value = 100;
    const address = URL.createObjectURL(blob);
    element('a', { href: address, download: saved }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    say(`Whole: ${size(blob.size)} saved as ${saved}.`);
  } catch (error) {
    if (running === stop) bar.value = 0;
    say(stop.signal.aborted ? 'Stopped; nothing was saved.' : `Failed, and nothing was saved: ${error.message}`);
  } finally {
    if (running === stop) byId('stop').hidden = true;
  }
}

async function copy(button) {
  const source = byId(button.dataset.copy);
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Copying is not allowed here; select the text';
  }
  setTimeout(() => { button.textContent = said; }, 2000);
}

/** Starts this part; `inspect` takes a link over. */
export function startBuild(there, inspect) {
  const [form, below] = [byId('build-form'), byId('build-error')];
  for (const key of there.keys) byId('kids').append(element('option', { value: key.id, textContent: `tenant ${key.tenant}` }));
  for (const sample of there.samples) byId('samples').append(element('option', { value: sample }));
  byId('kid').value = there.keys[0]?.id ?? '';
  byId('url').value = there.samples[0] ?? '';
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    settle(form, below);
    byId('built').hidden = true;
    try {
      show(await call('mint', { kid: form.elements.kid.value.trim(), options: options(form) }));
    } catch (complaint) {
      complain(form, complaint, below);
    }
  });
  byId('fetch').addEventListener('click', () => {
    running?.abort();
    running = new AbortController();
    transfer(byId('link').value, running);
  });
  byId('stop').addEventListener('click', () => running?.abort());
  byId('to-inspect').addEventListener('click', () => inspect(byId('link').value));
  for (const button of document.querySelectorAll('[data-copy]')) button.addEventListener('click', () => copy(button));
}
