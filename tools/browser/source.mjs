// The code blocks as the sources of the book have them: what a reader is to see and to copy.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { sourceOf } from './site.mjs';

const include = /\{\{#(include|rustdoc_include) ([^}:\s]+)(?::([\w-]+))?\s*\}\}/g;

function withoutAnchors(text) {
  return text.split('\n').filter((line) => !/ANCHOR(_END)?: *[\w-]+/.test(line)).join('\n');
}

/** The text with what it includes. `rustdoc_include` hides the rest of a program behind `# `. */
function expand(text, folder) {
  return text.replaceAll(include, (_, kind, path, anchor) => {
    const file = join(folder, path);
    const source = readFileSync(file, 'utf8').replace(/\n$/, '');
    if (!anchor) return expand(withoutAnchors(source), dirname(file));
    let inside = false;
    const lines = source.split('\n').flatMap((line) => {
      const [, end, name] = line.match(/ANCHOR(_END)?: *([\w-]+)/) ?? [];
      if (name === anchor) inside = !end;
      if (name) return [];
      if (inside) return [line];
      return kind === 'rustdoc_include' ? [`# ${line}`] : [];
    });
    return expand(lines.join('\n'), dirname(file));
  });
}

/** One fenced block: what is shown of it, and the whole of it. */
function block(fence, lines) {
  const all = lines.map((line) => {
    const [, indent, next, rest] = (fence.startsWith('rust') && line.match(/^(\s*)#(.?)(.*)$/)) || [];
    if (next === '#') return { text: `${indent}#${rest}` };
    if (next === '' || next === ' ') return { text: indent + rest, hidden: true };
    return { text: line };
  });
  const text = (some) => some.map((line) => line.text).join('\n').trimEnd();
  // A command goes on in the next line after a backslash.
  let command = false;
  const commands = lines.flatMap((line) => {
    const begins = line.startsWith('$ ');
    const belongs = begins || command;
    command = belongs && line.endsWith('\\');
    return belongs ? [begins ? line.slice(2) : line] : [];
  });
  return {
    fence,
    shown: text(all.filter((line) => !line.hidden)),
    whole: text(all),
    hidden: all.some((line) => line.hidden),
    commands: fence.startsWith('console') ? commands.join('\n') : '',
  };
}

/** The blocks of a page of the site; none if the page is not one of the book. */
export function blocks(page) {
  const file = sourceOf(page);
  if (!existsSync(file)) return [];
  const found = [];
  let open;
  for (const line of expand(readFileSync(file, 'utf8'), dirname(file)).split('\n')) {
    const [, indent, ticks, fence] = line.match(/^(\s*)(`{3,})\s*(\S*)/) ?? [];
    if (!open && ticks) open = { indent, ticks, fence, lines: [] };
    else if (open && ticks?.length >= open.ticks.length && !fence) {
      found.push(block(open.fence, open.lines));
      open = undefined;
    } else if (open) open.lines.push(line.startsWith(open.indent) ? line.slice(open.indent.length) : line.trimStart());
  }
  return found;
}
