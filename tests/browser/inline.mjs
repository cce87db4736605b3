// What a page that came through an inline link can do to the console, in the very tab in which the console is open.
//
//   node tests/browser/inline.mjs CONSOLE FOLDER TEXT MARKUP...    prints what the text could do, and what became of the rest

import { Browser } from './chromium.mjs';

const [address, folder, text, ...markup] = process.argv.slice(2);
const browser = new Browser();
const told = {};
try {
  await browser.saveTo(folder);
  const page = await browser.open(address);
  await page.until('!document.getElementById("main").hidden');
  told.saved = [];
  for (const link of markup) {
    const { name, state } = await browser.download(() => page.evaluate(`void (location.href = ${JSON.stringify(link)})`));
    told.saved.push([name, state]);
  }
  await page.goTo(text);
  told.shown = await page.evaluate(`(async () => {
    const name = (error) => error.name;
    const stored = (() => { try { return sessionStorage.length; } catch (error) { return name(error); } })();
    const asked = await fetch('/_/api/keys').then((answer) => answer.status, name);
    return { type: document.contentType, origin: self.origin, elements: document.body.children.length, stored, asked };
  })()`);
  // The console itself is as it was.
  await page.goTo(address.replace(/#.*/, ''));
  await page.until('!document.getElementById("main").hidden');
} finally {
  await browser.close();
}
console.log(JSON.stringify(told));
