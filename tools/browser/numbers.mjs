// Measures the built site by Lighthouse: the front page, a page of code and the longest page, each
// three times on a phone and on a desk. Prints the medians; exits with 1 when one misses its target.
//
//     npm run numbers --prefix browser            everything; the machine must be idle
//     npm run steady --prefix browser             only what no busy machine changes

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from 'chrome-launcher';
import lighthouse, { desktopConfig } from 'lighthouse';
import { chromium, files, missing, serve, site } from './site.mjs';

const steady = process.argv.includes('--steady');
// A single run may come upon a page that the server hands over in pieces, and see it shift.
const runs = 3;
const code = 'server/hello-world.html';

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
    atMost: { mobile: 48, desktop: 48 }, only: code, digits: 1 },
];

function score(category) {
  return (report) => Math.round(report.categories[category].score * 100);
}

function audit(name) {
  return (report) => report.audits[name].numericValue;
}

function requests(report) {
  return report.audits['network-requests'].details.items.filter(({ url }) => url.startsWith('http'));
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** The audits that cost points, for whoever has to mend them. */
function faults(reports) {
  const found = new Map();
  for (const { categories, audits } of reports) {
    for (const { id, auditRefs } of Object.values(categories)) {
      for (const ref of auditRefs) {
        const { score, title, displayValue } = audits[ref.id];
        if (ref.weight > 0 && score !== null && score < 1) found.set(ref.id, `${id}: ${title} (${ref.id}${displayValue ? `, ${displayValue}` : ''})`);
      }
    }
  }
  return [...found.values()];
}

const { pages } = files();
if (!pages.includes(code)) missing(`${site} has no ${code}`, 'name another page of code in browser/numbers.mjs');
const longest = pages.toSorted((a, b) => statSync(join(site, b)).size - statSync(join(site, a)).size)[0];
const server = await serve(site);
const chrome = await launch({ chromePath: chromium(), chromeFlags: ['--headless=new', '--no-sandbox', '--disable-dev-shm-usage'], logLevel: 'silent' });
const rows = [];
const misses = [];
try {
  for (const page of new Set(['index.html', code, longest])) {
    for (const device of ['mobile', 'desktop']) {
      const reports = [];
      for (let run = 0; run < runs; run += 1) {
        const options = { port: chrome.port, logLevel: 'silent', onlyCategories: ['performance', 'accessibility', 'best-practices', 'seo'] };
        const { lhr } = await lighthouse(server.address + page.replace(/^index\.html$/, ''), options, device === 'desktop' ? desktopConfig : undefined);
        if (lhr.runtimeError) throw new Error(`${page}, ${device}: ${lhr.runtimeError.message}`);
        reports.push(lhr);
      }
      const cells = measures.map(({ name, of, atLeast, everyRun, atMost, only, timed, digits = 0 }) => {
        const values = reports.map(of);
        const middle = median(values);
        const shown = values.map((value) => value.toFixed(digits));
        const target = only && only !== page ? undefined : (atLeast ?? atMost?.[device]);
        const missed = target !== undefined && !(timed && steady)
          && (atLeast ? middle < atLeast || Math.min(...values) < (everyRun ?? atLeast) : middle > target);
        if (missed) misses.push(`${page}, ${device}: ${name} ${shown.join(', ')}; the target is at ${atLeast ? 'least' : 'most'} ${target}${everyRun ? `, and no run under ${everyRun}` : ''}`);
        const cell = middle.toFixed(digits);
        return missed ? `**${cell}**` : cell;
      });
      const explained = faults(reports);
      if (misses.some((miss) => miss.startsWith(`${page}, ${device}:`)) && explained.length) misses.push(...explained.map((fault) => `    ${fault}`));
      rows.push([page, device, ...cells]);
    }
  }
} finally {
  await chrome.kill();
  server.close();
}

const head = ['page', 'device', ...measures.map(({ name }) => name)];
console.log(`Medians of ${runs} runs by Lighthouse; kB are compressed by brotli.\n`);
for (const row of [head, head.map((_, column) => (column < 2 ? '---' : '--:')), ...rows]) console.log(`| ${row.join(' | ')} |`);
if (misses.length) {
  console.error(`\n${misses.join('\n')}`);
  process.exit(1);
}
