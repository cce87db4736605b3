// Downloads links with headless Chromium, one after the other, and prints what it saved them as.
//
//   node tests/browser/download.mjs FOLDER LINK...

import { Browser } from './chromium.mjs';

const [folder, ...links] = process.argv.slice(2);
const browser = new Browser();
const done = [];
try {
  await browser.saveTo(folder);
  for (const url of links) done.push(await browser.download(() => browser.call('Target.createTarget', { url })));
} finally {
  await browser.close();
}
console.log(JSON.stringify(done));
