// Drives the console in headless Chromium: builds a link, downloads it both ways, inspects it whole and tampered with, with
// the mouse and with the keyboard alone, at three widths, in light and dark. Fails with the first thing that is not so.
//
//   node tests/browser/console.mjs ADDRESS FOLDER      pictures and downloads go to FOLDER

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Browser } from './chromium.mjs';

const [address, folder] = process.argv.slice(2);
const NAME = 'Отчёт 100% (1).mp4';
const text = (id) => `document.getElementById(${JSON.stringify(id)}).textContent`;
const value = (id) => `document.getElementById(${JSON.stringify(id)}).value`;
const shown = (id) => `!document.getElementById(${JSON.stringify(id)}).hidden`;

const browser = new Browser();
const saved = join(folder, 'saved');
mkdirSync(saved);

async function ready(page) {
  await page.until(shown('main'));
  assert.equal(await page.evaluate('location.hash'), '', 'the key stays in the address');
}

async function build(page, name) {
  await page.fill('#filename', name);
  await page.click('#build-form button.main');
  await page.until(shown('built'));
}

async function inspect(page, link) {
  await page.fill('#inspected', link);
  await page.click('#inspect-form button.main');
  await page.until(shown('verdict'));
  return page.evaluate('[...document.querySelectorAll("#stages li")].map((item) => item.className).join(" ")');
}

/** No wider than the window, every field named, and nothing that the page's own policy blocked. */
async function sound(page, what) {
  assert.equal(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), true, `${what} scrolls sideways`);
  assert.deepEqual(await page.evaluate(`[...document.querySelectorAll('input, select, textarea, meter, progress')]
    .filter((field) => !field.labels?.length && !field.getAttribute('aria-label')).map((field) => field.outerHTML)`), [], `${what} has fields without a name`);
  assert.deepEqual(page.complaints, [], `${what}: the page's console is not empty`);
}

try {
  await browser.saveTo(saved);
  const page = await browser.open(address);
  await ready(page);

  // Build it; the name is saved as it was written, by a plain link and by the download with progress.
  await build(page, NAME);
  const link = await page.evaluate(value('link'));
  assert.match(await page.evaluate(text('string-to-sign')), new RegExp(`^sluicegate-link-v1\nexp=\\d+\nfilename=${NAME.replace(/[()]/g, '\\$&')}\nkid=demo\nurl=http://sample.localhost/clip.mp4\n$`));
  assert.ok(link.endsWith(`sig=${await page.evaluate(text('signature'))}`));
  const plain = await browser.download(() => page.click('#plain'));
  assert.deepEqual([plain.name, plain.state], [NAME, 'completed']);
  const fetched = await browser.download(() => page.click('#fetch'));
  assert.deepEqual([fetched.name, fetched.state], [NAME, 'completed']);
  await page.until(`${text('transfer-text')}.startsWith('Whole')`);
  assert.equal(await page.evaluate(value('progress')), 100);
  assert.ok(existsSync(join(saved, NAME)));

  // A mistake is shown at its field.
  await page.fill('#filename', 'a/b');
  await page.click('#build-form button.main');
  await page.until(`${text('filename-error')} !== ''`);
  assert.equal(await page.evaluate('document.activeElement.id'), 'filename');
  assert.equal(await page.evaluate(shown('built')), false, 'the old link is still shown');
  await build(page, NAME);

  // Inspect it whole, then with another name, then as another host's, then as nothing.
  assert.equal(await inspect(page, link), 'pass pass pass pass pass');
  assert.match(await page.evaluate(text('stages')), /29\.6 kB, attachment as Отчёт 100% \(1\)\.mp4/);
  assert.equal(await inspect(page, link.replace(/&filename=[^&]*/, '')), 'pass stop idle idle idle');
  assert.match(await page.evaluate(text('stages')), /invalid_signature/);
  assert.equal(await inspect(page, link.replace('&kid=demo', '')), 'stop idle idle idle idle');
  assert.match(await page.evaluate(text('stages')), /malformed_link/);
  assert.equal(await inspect(page, `${link}&filename=evil.exe`), 'stop idle idle idle idle');
  assert.equal(await inspect(page, `${link}&utm_source=mail`), 'pass pass pass pass pass');
  await page.fill('#url', 'http://sample.localhost/nothing.bin');
  await build(page, NAME);
  await page.click('#to-inspect');
  await page.until('document.querySelectorAll("#stages .stop").length === 1');
  assert.match(await page.evaluate('document.querySelector("#stages .stop").textContent'), /the upstream answered 404.*upstream_not_found/);
  await page.fill('#url', 'https://elsewhere.example/a.pdf');
  await build(page, NAME);
  assert.match(await page.evaluate(text('built-refused')), /url_not_allowed/);

  // Markup in a link stays text.
  await inspect(page, `${link}&<img src=x onerror=alert(1)>`);
  assert.equal(await page.evaluate('document.querySelectorAll("#verdict img").length'), 0);

  // The figures have seen it all.
  await page.until('/refused: upstream_not_found/.test(document.getElementById("tenants").textContent)');
  assert.match(await page.evaluate(text('tenants')), /\d whole/);
  await page.until('document.querySelectorAll(".plot path[d^=M]").length >= 2');
  assert.match(await page.evaluate('document.querySelector(".plot").getAttribute("aria-label")'), /^Requests of demo a second, last two minutes: now \d/);
  await sound(page, 'the wide page');
  await page.picture(join(folder, 'wide-light.png'));
  await page.scheme(true);
  await page.picture(join(folder, 'wide-dark.png'));

  // A large file: progress moves before it is whole, and Stop leaves nothing behind.
  await page.fill('#url', 'http://sample.localhost/large.bin');
  await build(page, 'large.bin');
  await page.click('#fetch');
  await page.until('document.getElementById("progress").value > 0');
  // Another link, and a mistake, leave it alone.
  await build(page, 'other.bin');
  await page.fill('#filename', 'a/b');
  await page.click('#build-form button.main');
  await page.until(`${text('filename-error')} !== ''`);
  assert.ok(await page.evaluate(`${shown('transfer')} && ${shown('stop')}`), 'the download under way is out of sight');
  await page.click('#stop');
  await page.until(`/Stopped|Whole/.test(${text('transfer-text')})`);
  writeFileSync(join(folder, 'stopped.txt'), await page.evaluate(text('transfer-text')));

  // With the keyboard alone: Tab to each field of the form, Enter signs, Tab on to the link and its buttons.
  const keys = await browser.open(address, { width: 360, height: 740 });
  await ready(keys);
  const visited = [];
  for (let presses = 0; presses < 30 && visited.at(-1) !== 'filename'; presses += 1) {
    await keys.press('Tab');
    visited.push(await keys.evaluate('document.activeElement.id'));
  }
  assert.ok(visited.includes('kid') && visited.includes('url') && visited.at(-1) === 'filename', visited.join(' '));
  assert.notEqual(await keys.evaluate('getComputedStyle(document.activeElement).outlineStyle'), 'none', 'the focus cannot be seen');
  await keys.call('Input.insertText', { text: 'typed.mp4' });
  await keys.press('Enter');
  await keys.until(shown('built'));
  for (let presses = 0; presses < 10 && await keys.evaluate('document.activeElement.id') !== 'plain'; presses += 1) await keys.press('Tab');
  assert.equal(await keys.evaluate('document.activeElement.id'), 'plain');
  const typed = await browser.download(() => keys.press('Enter'));
  assert.deepEqual([typed.name, typed.state], ['typed.mp4', 'completed']);
  const typedLink = await keys.evaluate(value('link'));
  assert.equal(await inspect(keys, typedLink.replace('&exp=1', '&exp=2')), 'pass stop idle idle idle');
  await keys.until('document.querySelectorAll(".plot path[d^=M]").length >= 2');
  await sound(keys, 'the page on a phone');
  await keys.picture(join(folder, 'phone-light.png'));
  await keys.scheme(true);
  await keys.picture(join(folder, 'phone-dark.png'));

  // Without the key there is no page, and another key is told to come back with the right one.
  const bare = await browser.open(address.replace(/#.*/, ''));
  await bare.until(`/printed/.test(${text('state')})`);
  assert.equal(await bare.evaluate(shown('main')), false);
  const wrong = await browser.open(`${address.replace(/#.*/, '')}?wrong#key=00000000000000000000000000000000`);
  await wrong.until(`/printed/.test(${text('state')})`);
  assert.equal(await wrong.evaluate(shown('main')), false);

  // The address of a server that was started again, pasted into the old tab.
  await page.evaluate('sessionStorage.clear()');
  await page.follow(() => page.evaluate(`location.href = ${JSON.stringify(address)}`));
  await page.until(shown('main'));
  assert.equal(await page.evaluate('location.hash'), '');

  // Code that came through a link is no code of this page, although its origin is the same.
  await assert.rejects(page.evaluate(`import(${JSON.stringify(`/?${link.split('?')[1]}`)})`), /Failed to fetch/);
  assert.match(page.complaints.at(-1), /Content Security Policy/);

  console.log(JSON.stringify({ name: NAME, bytes: readFileSync(join(saved, NAME)).length }));
} finally {
  await browser.close();
}
