// Live figures, asked for once a second while somebody can see them: for each key how requests ended, bytes, downloads
// under way, and what is left of its limits.

import { call, element, size } from './server.js';
import { plot, POINTS } from './plot.js';

const byId = (id) => document.getElementById(id);
const PERIOD = 1000;
const COLUMNS = ['Key', 'Requests', 'How they ended', 'Bytes', 'Under way', 'Left of the key’s limits'];

const rows = new Map();
const sum = (requests) => requests.reduce((all, end) => all + end.count, 0);
const rate = (value) => `${value.toFixed(value < 10 ? 1 : 0)} requests/s`;
const speed = (value) => `${size(Math.round(value))}/s`;

/** `refused` and `aborted` say why. */
const ending = ({ outcome, code, count }) => `${count} ${outcome}${code ? `: ${code}` : ''}`;

function meters(limits) {
  const names = { requests: 'requests at once', downloads: 'downloads at once', bytes_today: 'bytes today' };
  const shown = Object.entries(names).filter(([name]) => limits[name]).map(([name, words]) => {
    const { left, of } = limits[name];
    const text = name === 'bytes_today' ? `${size(left)} of ${size(of)}` : `${left} of ${of}`;
    const meter = element('meter', { min: 0, max: of || 1, value: left, low: of / 5 });
    meter.setAttribute('aria-label', `${words}: ${text} left`);
    return element('li', {}, meter, element('span', { className: 'caption', textContent: `${text} ${words}` }));
  });
  return shown.length ? element('ul', {}, ...shown) : element('span', { className: 'caption', textContent: 'no limits' });
}

function cell(label, ...children) {
  const made = element('td', {}, ...children);
  made.dataset.label = label;
  return made;
}

/** One key's row with its two series. */
function newRow(id) {
  const [requests, bytes] = [plot(`Requests of ${id} a second`, rate), plot(`Bytes of ${id} a second`, speed)];
  const [total, endings, sent, active, limits] = [1, 2, 3, 4, 5].map(() => element('div'));
  const name = element('th', { scope: 'row' }, element('code', { textContent: id }));
  const root = element('tr', {}, name, cell(COLUMNS[1], total, requests.root), cell(COLUMNS[2], endings),
    cell(COLUMNS[3], sent, bytes.root), cell(COLUMNS[4], active), cell(COLUMNS[5], limits));
  const series = { requests: [], bytes: [] };
  let last;
  const push = (list, value) => {
    list.push(Math.max(value, 0));
    if (list.length > POINTS) list.shift();
  };
  return {
    root,
    update(key, seconds) {
      const count = sum(key.requests);
      if (last && seconds > 0) {
        push(series.requests, (count - last.count) / seconds);
        push(series.bytes, (key.bytes - last.bytes) / seconds);
      }
      last = { count, bytes: key.bytes };
      total.textContent = count;
      sent.textContent = size(key.bytes);
      active.textContent = key.limits.active;
      endings.replaceChildren(element('ul', {}, ...key.requests.map((end) => element('li', { textContent: ending(end) }))));
      limits.replaceChildren(meters(key.limits));
      requests.update(series.requests);
      bytes.update(series.bytes);
    },
  };
}

function newTenant(name) {
  const body = element('tbody');
  const head = element('tr', {}, ...COLUMNS.map((column) => element('th', { scope: 'col', textContent: column })));
  const limits = element('div');
  const table = element('table', { className: 'keys' }, element('caption', { className: 'hidden', textContent: `Keys of tenant ${name}` }),
    element('thead', {}, head), body);
  const root = element('div', { className: 'tenant' }, element('h3', { textContent: `Tenant ${name}` }),
    element('details', {}, element('summary', { textContent: 'Left of the tenant’s limits, all keys together' }), limits),
    element('div', { className: 'scroll' }, table));
  return { root, body, limits };
}

function show(report, seconds) {
  const seen = new Set();
  for (const tenant of report.tenants) {
    const group = rows.get(tenant.name) ?? newTenant(tenant.name);
    rows.set(tenant.name, group);
    seen.add(tenant.name);
    if (!group.root.isConnected) byId('tenants').append(group.root);
    group.limits.replaceChildren(meters(tenant.limits));
    for (const key of tenant.keys) {
      const name = `${tenant.name}\n${key.id}`;
      const row = rows.get(name) ?? newRow(key.id);
      rows.set(name, row);
      seen.add(name);
      if (!row.root.isConnected) group.body.append(row.root);
      row.update(key, seconds);
    }
  }
  for (const [name, row] of rows) {
    if (!seen.has(name)) {
      row.root.remove();
      rows.delete(name);
    }
  }
  const strangers = sum(report.unproven.requests);
  byId('unproven').replaceChildren(element('h3', { textContent: `Without a proven credential: ${strangers}` }),
    element('ul', {}, ...report.unproven.requests.map((end) => element('li', { textContent: ending(end) }))));
  byId('live-state').textContent = report.left_out ? `${report.left_out} keys with fewer requests are not shown.` : '';
}

/** Starts this part. It rests while the page is hidden and when the server is gone. */
export function startLive() {
  let at = 0;
  const tick = async () => {
    if (!document.hidden) {
      try {
        const report = await call('figures');
        const now = performance.now();
        show(report, at ? (now - at) / 1000 : 0);
        at = now;
      } catch (complaint) {
        byId('live-state').textContent = `No figures: ${complaint.message}`;
      }
    }
    setTimeout(tick, PERIOD);
  };
  tick();
}
