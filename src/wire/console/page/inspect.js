// Walks a pasted link through every stage. The first three are judged without a request; limits and upstream are tried
// through the gateway itself, with the first byte of the file.

import { call, complain, element, quoted, settle, size } from './server.js';

const byId = (id) => document.getElementById(id);

const STAGES = [
  ['link', 'Is it a link?'],
  ['verify', 'Who signed it, and when does it end?'],
  ['policy', 'May this tenant fetch that?'],
  ['limits', 'Is there room now?'],
  ['upstream', 'Is the file there?'],
];

/** What a RateLimit field says (draft-ietf-httpapi-ratelimit-headers): `"key";r=199;t=1, "tenant";r=399;t=1`. */
function room(field) {
  const left = [...(field ?? '').matchAll(/"(\w+)";r=(\d+)/g)].map(([, scope, count]) => `${count} more for the ${scope}`);
  return left.length ? `requests that may come at once: ${left.join(', ')}` : 'no rate is set';
}

/** The name under which a browser saves it (RFC 6266; the gateway always writes `filename*` for what is not plain). */
function savedAs(field) {
  const extended = /filename\*=UTF-8''([^;\s]+)/i.exec(field ?? '')?.[1];
  return extended ? decodeURIComponent(extended) : /filename="((?:[^"\\]|\\.)*)"/.exec(field ?? '')?.[1] ?? 'without a name';
}

/** Tries the two stages that need a request; a stage that is missing in the result was not reached. */
async function tryIt(query, token) {
  const headers = { range: 'bytes=0-0' };
  if (token) headers['x-sluicegate-token'] = token;
  const answer = await fetch(`/?${query}`, { headers, cache: 'no-store' });
  if (answer.ok) {
    const [type, disposition] = ['content-type', 'content-disposition'].map((name) => answer.headers.get(name));
    const total = answer.headers.get('content-range')?.split('/')[1] ?? answer.headers.get('x-sluicegate-length');
    const length = total && total !== '*' ? size(Number(total)) : 'unknown length';
    await answer.body?.cancel();
    return [
      { stage: 'limits', passes: true, reason: room(answer.headers.get('ratelimit')) },
      { stage: 'upstream', passes: true, reason: `${type}, ${length}, ${disposition?.split(';')[0]} as \`${savedAs(disposition)}\`` },
    ];
  }
  const problem = await answer.json().catch(() => ({ detail: `status ${answer.status}`, code: '' }));
  const throttled = answer.status === 429;
  // The answer says what an outsider may know; the log says more.
  const { reason } = await call(`reason?${answer.headers.get('x-request-id')}`).catch(() => ({ reason: problem.detail }));
  const stopped = { stage: throttled ? 'limits' : 'upstream', passes: false, code: problem.code, reason };
  return throttled ? [stopped] : [{ stage: 'limits', passes: true, reason: 'let in' }, stopped];
}

function row([name, question], found) {
  const state = !found ? 'idle' : found.passes ? 'pass' : 'stop';
  const word = { idle: 'not reached', pass: '✓ passes', stop: '✗ stops' }[state];
  const item = element('li', { className: state }, element('strong', { textContent: word }));
  const text = element('div', {}, element('p', {}, element('b', { textContent: question })));
  if (found) text.append(element('p', {}, ...quoted(found.reason)));
  if (found?.code) text.append(element('p', {}, 'Outsiders see: ', element('code', { textContent: found.code })));
  item.dataset.stage = name;
  item.append(text);
  return item;
}

function show(walk, more) {
  const found = [...walk.stages, ...more];
  const stop = found.find((stage) => !stage.passes);
  byId('verdict-title').textContent = stop ? `It stops at “${STAGES.find(([name]) => name === stop.stage)?.[1] ?? stop.stage}”`
    : 'It passes every stage';
  byId('stages').replaceChildren(...STAGES.map((stage) => row(stage, found.find((one) => one.stage === stage[0]))));
  byId('hints').hidden = walk.hints.length === 0;
  byId('hints').querySelector('ul').replaceChildren(...walk.hints.map((hint) => element('li', {}, ...quoted(hint))));
  byId('lines').hidden = walk.string_to_sign.length === 0;
  byId('lines').querySelector('pre').replaceChildren(...walk.string_to_sign.map((line) => {
    const text = line.differs ? `${line.text}   ← signed differently` : line.text;
    return element('span', { className: line.differs ? 'line differs' : 'line', textContent: text });
  }));
  byId('verdict').hidden = false;
  byId('verdict').focus();
}

/** Starts this part; what it gives takes a link over from elsewhere on the page. */
export function startInspect() {
  const [form, below] = [byId('inspect-form'), byId('inspect-error')];
  const run = async () => {
    settle(form, below);
    const [link, token, client] = ['link', 'token', 'client'].map((name) => form.elements[name].value.trim());
    byId('verdict').hidden = true;
    if (!link && !token) {
      complain(form, { message: 'paste a link, or its query', parameter: 'link' }, below);
      return;
    }
    try {
      const walk = await call('inspect', { link, token: token || null, client: client || null });
      const query = link.slice(link.indexOf('?') + 1).split('#')[0];
      // As another client it cannot be tried.
      const more = walk.passes && !client ? await tryIt(query, token) : [];
      show(walk, more);
    } catch (complaint) {
      complain(form, complaint, below);
    }
  };
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    run();
  });
  return (link) => {
    form.elements.link.value = link;
    form.elements.token.value = '';
    form.elements.client.value = '';
    byId('inspect').scrollIntoView();
    run();
  };
}
