// A headless Chromium over the DevTools pipe, so that nothing needs to be installed for it.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Starts it; it ends with the test. CHROMIUM names another program than `chromium`. */
export function chromium(t, ...options) {
  const profile = mkdtempSync(join(tmpdir(), 'sluicegate-chromium-'));
  const child = spawn(process.env.CHROMIUM ?? 'chromium', [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
    '--disable-background-networking', '--disable-component-update', '--disable-dev-shm-usage',
    `--user-data-dir=${profile}`, '--remote-debugging-pipe', ...options, 'about:blank',
  ], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
  const browser = new Browser(child);
  t.after(async () => {
    await browser.call('Browser.close').catch(() => child.kill());
    await browser.ended;
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  return browser;
}

class Browser {
  #child;
  #calls = new Map();
  #listeners = new Set();
  #number = 0;

  constructor(child) {
    this.#child = child;
    this.ended = new Promise((resolve) => {
      const end = (why) => {
        for (const { reject } of this.#calls.values()) reject(new Error(`Chromium ended: ${why}`));
        this.#calls.clear();
        resolve();
      };
      child.on('exit', end);
      child.on('error', end); // it is not installed, or CHROMIUM names nothing
    });
    for (const pipe of [child.stdio[3], child.stdio[4]]) pipe?.on('error', () => {}); // told by `exit`
    let rest = '';
    child.stdio[4]?.setEncoding('utf8').on('data', (text) => {
      const messages = (rest + text).split('\0');
      rest = messages.pop();
      for (const message of messages) this.#receive(JSON.parse(message));
    });
  }

  #receive(message) {
    if (message.id === undefined) {
      for (const listener of [...this.#listeners]) listener(message);
      return;
    }
    const { resolve, reject } = this.#calls.get(message.id);
    this.#calls.delete(message.id);
    if (message.error) reject(new Error(message.error.message));
    else resolve(message.result);
  }

  /** Calls a DevTools method, of one page if its session is given. */
  call(method, params = {}, sessionId = undefined) {
    this.#number += 1;
    const id = this.#number;
    const answer = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
    this.#child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return answer;
  }

  /** The first event that `matches` tells from the others. */
  event(matches) {
    return new Promise((resolve) => {
      const listener = (message) => {
        if (!matches(message)) return;
        this.#listeners.delete(listener);
        resolve(message.params);
      };
      this.#listeners.add(listener);
    });
  }

  /** Opens a page. */
  async open(url) {
    const { targetId } = await this.call('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true });
    await this.call('Page.enable', {}, sessionId);
    const page = new Page(this, sessionId);
    await page.follow(() => this.call('Page.navigate', { url }, sessionId));
    return page;
  }
}

class Page {
  constructor(browser, sessionId) {
    this.browser = browser;
    this.sessionId = sessionId;
  }

  call(method, params) {
    return this.browser.call(method, params, this.sessionId);
  }

  /** Does what leads to another page, and waits until that is loaded. */
  async follow(action) {
    const isLoad = ({ sessionId, method }) => sessionId === this.sessionId && method === 'Page.loadEventFired';
    const loaded = this.browser.event(isLoad);
    await action();
    await loaded;
  }

  /** The value of an expression in the page; promises are waited for. */
  async evaluate(expression) {
    const how = { awaitPromise: true, returnByValue: true, userGesture: true };
    const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression, ...how });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }
}
