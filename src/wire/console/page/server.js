// Calls to the server behind this page. Each carries the key that came in the page's address.

const STORE = 'sluicegate-console-key';

/** What the server answered instead; `parameter` is the field at fault, where there is one. */
export class Complaint extends Error {
  constructor(status, detail, parameter) {
    super(detail);
    this.status = status;
    this.parameter = parameter;
  }
}

/** Takes the key out of the address, so that it stays in no history and no screenshot. False if there is none. */
export function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get('key');
  if (given) {
    sessionStorage.setItem(STORE, given);
    history.replaceState(null, '', location.pathname);
  }
  return sessionStorage.getItem(STORE) !== null;
}

/** GET without a `body`, POST with one; resolves with the answer, rejects with a Complaint. */
export async function call(name, body) {
  const headers = { authorization: `Bearer ${sessionStorage.getItem(STORE)}` };
  if (body) headers['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(`api/${name}`, {
      method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body), cache: 'no-store',
    });
  } catch {
    throw new Complaint(0, 'the server does not answer; is it still running?');
  }
  const answer = await response.json().catch(() => ({ detail: `the server answered ${response.status} without a reason` }));
  if (!response.ok) throw new Complaint(response.status, answer.detail, answer.parameter);
  return answer;
}

/** Shows a complaint at its field, or below the form; the first field at fault gets the focus. */
export function complain(form, complaint, below) {
  const field = complaint.parameter && form.querySelector(`[aria-describedby~="${complaint.parameter}-error"]`);
  const place = (field && document.getElementById(`${complaint.parameter}-error`)) || below;
  place.textContent = complaint.message;
  if (field) {
    field.setAttribute('aria-invalid', 'true');
    field.closest('details')?.setAttribute('open', '');
    field.focus();
  }
}

/** Takes earlier complaints away. */
export function settle(form, below) {
  for (const place of [...form.querySelectorAll('.error'), below]) place.textContent = '';
  for (const field of form.querySelectorAll('[aria-invalid]')) field.removeAttribute('aria-invalid');
}

/** 29558 as `29.6 kB`: decimal units, as the policy's. */
export function size(bytes) {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  let value = bytes;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${at === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[at]}`;
}

/** An element with text and children; text never becomes markup. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Text whose values stand in backticks, as the gateway writes them. */
export function quoted(text) {
  return text.split('`').map((part, at) => (at % 2 ? element('code', { textContent: part }) : part));
}
