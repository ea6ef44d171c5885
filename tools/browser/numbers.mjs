// Measures the built site by Lighthouse: the front page, a page of code and the longest page, each
// three times on a phone and on a desk. Prints the medians; exits with 1 when one misses its target.
//
//     npm run numbers --prefix tools/browser            everything; the machine must be idle
//     npm run steady --prefix tools/browser             only what no busy machine changes

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from 'chrome-launcher';
import lighthouse, { desktopConfig } from 'lighthouse';
import { chromium, files, serve, site } from './site.mjs';

const steady = process.argv.includes('--steady');
// A single run may come upon a page that the server hands over in pieces, and see it shift.
const runs = 3;
const code = 'server/hello-world.html';

const score = (category) => ({ categories }) => Math.round(categories[category].score * 100);
const audit = (name) => ({ audits }) => audits[name].numericValue;
const requests = ({ audits }) => audits['network-requests'].details.items.filter(({ url }) => url.startsWith('http'));

/** What is measured: its name, its value in a report, and its target. */
const measures = [
  { name: 'performance', of: score('performance'), atLeast: 100, everyRun: 99, timed: true },
  { name: 'accessibility', of: score('accessibility'), atLeast: 100 },
  { name: 'best practices', of: score('best-practices'), atLeast: 100 },
  { name: 'SEO', of: score('seo'), atLeast: 100 },
  { name: 'FCP ms', of: audit('first-contentful-paint'), timed: true },
  { name: 'LCP ms', of: audit('largest-contentful-paint'), atMost: { mobile: 1250, desktop: 310 }, timed: true },
  { name: 'layout shift', of: audit('cumulative-layout-shift'), atMost: { mobile: 0.005, desktop: 0.005 }, digits: 3 },
  { name: 'requests', of: (report) => requests(report).length, atMost: { mobile: 10, desktop: 10 }, only: code },
  { name: 'kB', of: (report) => requests(report).reduce((sum, { transferSize }) => sum + transferSize, 0) / 1000,
    atMost: { mobile: 40, desktop: 40 }, digits: 1 },
];

/** The audits that cost points, for whoever has to fix them. */
function faults({ categories, audits }) {
  const refs = Object.values(categories).flatMap(({ auditRefs }) => auditRefs);
  const costly = refs.filter(({ id, weight }) => weight > 0 && audits[id].score !== null && audits[id].score < 1);
  return costly.map(({ id }) => `    ${audits[id].title} (${id} ${audits[id].displayValue ?? ''})`);
}

const pages = files();
const longest = pages.toSorted((a, b) => statSync(join(site, b)).size - statSync(join(site, a)).size)[0];
const server = await serve(site);
const chrome = await launch({ chromePath: chromium(), chromeFlags: ['--headless=new', '--no-sandbox', '--disable-dev-shm-usage'], logLevel: 'silent' });
const misses = [];

/** A row of the table: the medians. */
async function measure(page, device) {
  const reports = [];
  for (let run = 0; run < runs; run += 1) {
    const options = { port: chrome.port, logLevel: 'silent', onlyCategories: ['performance', 'accessibility', 'best-practices', 'seo'] };
    const { lhr } = await lighthouse(server.address + page.replace(/^index\.html$/, ''), options, device === 'desktop' ? desktopConfig : undefined);
    if (lhr.runtimeError) throw new Error(`${page}, ${device}: ${lhr.runtimeError.message}`);
    reports.push(lhr);
  }
  const before = misses.length;
  const cells = measures.map(({ name, of, atLeast, everyRun = atLeast, atMost, only = page, timed, digits = 0 }) => {
    const values = reports.map(of).sort((a, b) => a - b);
    const middle = values[Math.floor(runs / 2)];
    const missed = only === page && !(timed && steady) && (middle < atLeast || values[0] < everyRun || middle > atMost?.[device]);
    if (missed) misses.push(`${page}, ${device}: ${name} ${values.map((value) => value.toFixed(digits)).join(', ')}; the target is ${atLeast ?? atMost[device]}`);
    return missed ? `**${middle.toFixed(digits)}**` : middle.toFixed(digits);
  });
  if (misses.length > before) misses.push(...new Set(reports.flatMap(faults)));
  return [page, device, ...cells];
}

const head = ['page', 'device', ...measures.map(({ name }) => name)];
const rows = [head, head.map((_, column) => (column < 2 ? '---' : '--:'))];
try {
  for (const page of new Set(['index.html', code, longest])) {
    for (const device of ['mobile', 'desktop']) rows.push(await measure(page, device));
  }
} finally {
  await chrome.kill();
  server.close();
}
console.log(`Medians of ${runs} runs by Lighthouse; kB are compressed by brotli.\n`);
for (const row of rows) console.log(`| ${row.join(' | ')} |`);
if (misses.length) {
  console.error(`\n${misses.join('\n')}`);
  process.exit(1);
}
