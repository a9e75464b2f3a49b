/** JsSIP in a page of headless Chromium: a phone behind a WebSocket, as a web application has it. */
import { createRequire } from 'node:module';
import { Browser } from './browser.ts';
import { bundle } from './bundle.ts';

/** What the page keeps of its phone: its state, and every call that came. It takes each call. */
const PHONE = `
function phone(config) {
  const socket = new JsSIP.WebSocketInterface(config.url);
  const ua = new JsSIP.UA({ ...config, sockets: [socket], register: true, session_timers: false });
  const state = { registered: false, failed: '', calls: [], messages: [] };
  ua.on('registered', ({ response }) => {
    state.registered = true;
    state.contact = response.getHeader('Contact');
    state.require = response.getHeader('Require') || '';
    state.flowTimer = response.getHeader('Flow-Timer') || '';
  });
  ua.on('registrationFailed', ({ cause }) => { state.failed = cause; });
  ua.on('newMessage', ({ originator, request }) => {
    if (originator === 'remote') state.messages.push(request.body);
  });
  ua.on('newRTCSession', ({ session, originator }) => {
    const call = { originator, confirmed: false, ended: '', failed: '' };
    state.calls.push(call);
    session.on('confirmed', () => { call.confirmed = true; });
    session.on('ended', ({ originator }) => { call.ended = originator; });
    session.on('failed', ({ cause }) => { call.failed = cause; });
    if (originator === 'remote')
      session.answer({ mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } });
    state.session = session;
  });
  ua.start();
  globalThis.ua = ua;
  globalThis.state = state;
}`;

export interface PhoneOptions {
  /** ws://HOST:PORT or wss://... */
  url: string;
  aor: string;
  password?: string;
}

export class BrowserPhone {
  readonly browser: Browser;

  private constructor(browser: Browser) {
    this.browser = browser;
  }

  /** Opens the page, and starts its phone: it registers at once. */
  static async open({ url, aor, password }: PhoneOptions): Promise<BrowserPhone> {
    const jssip = createRequire(import.meta.url).resolve('jssip');
    const browser = await Browser.open(`${bundle(jssip, 'JsSIP')}\n${PHONE}`);
    const phone = new BrowserPhone(browser);
    await browser.evaluate(`phone(${JSON.stringify({ url, uri: aor, password })})`);
    return phone;
  }

  registered(): Promise<void> {
    return this.browser.becomes('state.registered');
  }

  /** A field of the page's state. */
  state(path: string): Promise<unknown> {
    return this.browser.evaluate(`state.${path}`);
  }

  close(): Promise<void> {
    return this.browser.close();
  }
}
