// The search: loaded when it is first opened, after the titles. The texts come with the first letter
// that is typed (tools/site/src/search.rs writes both).
//
// A section is found if each word of the query stands in it, or in its title or its page's. Words
// are looked for within longer ones too, so an identifier is found by its whole name and by each
// of its parts. Titles count most, then prose, then code, then names in lines that are hidden.
//
// Readers paste lines of a log, or all that a compiler says. So a section is also found if its whole title
// stands in the query, whatever else does. `…` in a title stands for any text.
//
// A question has words that no section has. So to four words and more, or where few sections are found, those sections
// answer that are nearest to it: a word counts the more, the fewer sections have it.
// A section may have other words for what it is about, which nobody sees: `<!-- also: … -->` in its page.
"use strict";

let searchTexts;

(() => {
    const field = (weight, text = "", kind = "prose") => ({ weight, text, lower: text.toLowerCase(), kind });
    // A section whose fragment is the one that mdBook makes of its title has the title alone.
    const fragment = (title) => title.toLowerCase().replace(/[^\p{L}\p{N}_\s-]/gu, "").replace(/\s/g, "-");
    const parted = (part) => (Array.isArray(part) ? part : [fragment(part), part]);
    const sections = searchTitles.flatMap(([path, page, parts]) => parts.map(parted).map(([id, title], number) => ({
        path,
        address: number === 0 ? path : `${path}#${id}`,
        page,
        title,
        titles: [field(number === 0 ? 90 : 60, title), field(12, number === 0 ? "" : page)],
        pieces: title.toLowerCase().split("…").map((piece) => piece.trim()).filter(Boolean),
        forms: [],
        texts: [],
    })));

    const isWord = (c) => c !== undefined && /[\p{L}\p{N}]/u.test(c);

    // How well a word stands in a text: 0 not at all, 3 as a whole word.
    const match = (text, word) => {
        let best = 0;
        for (let at = text.indexOf(word); at >= 0 && best < 3; at = text.indexOf(word, at + 1)) {
            const begins = !isWord(text[at - 1]) || !isWord(word[0]);
            const ends = !isWord(text[at + word.length]) || !isWord(word.at(-1));
            best = Math.max(best, begins && ends ? 3 : begins ? 2 : 1);
        }
        return best;
    };

    const lowered = (text) => text.toLowerCase();
    const partsOf = (word) => word.replace(/(\p{Ll}|\p{N})(\p{Lu})/gu, "$1 $2").split(/[^\p{L}\p{N}]+/u).filter(Boolean).map(lowered);

    const fields = (section) => [...section.titles, ...section.texts];

    // The best place of a word in a section.
    const best = (section, word) => Math.max(...fields(section).map((field) => field.weight * match(field.lower, word)));

    // A name that does not stand there as it was typed may stand there in parts, which counts less:
    // `graceful_shutdown` finds `GracefulShutdown` and "gracefully shut down".
    const score = (section, words, phrase) => {
        const pasted = 30 * titleIn(section, phrase);
        let total = 0;
        for (const { whole, parts } of words) {
            const inParts = parts.length ? Math.min(...parts.map((part) => best(section, part))) / 3 : 0;
            const some = Math.max(best(section, whole), inParts);
            if (!(some > 0)) return pasted;
            total += some;
        }
        const phrased = fields(section).filter((field) => words.length > 1 && field.lower.includes(phrase));
        return phrased.reduce((sum, field) => sum + 10 * field.weight, total + pasted);
    };

    // How many letters of the title stand in the query: 0 if not all of them do, in their order. What somebody has pasted is the title of
    // an entry of Error Messages, or the Debug form of an error; "hello world" in a question is not about the page of that name.
    const titleIn = ({ path, pieces, forms }, phrase) => (path !== "reference/errors.html" ? 0 : Math.max(lettersIn(pieces, phrase, true), ...forms.map((form) => lettersIn(form, phrase, false))));
    const lettersIn = (pieces, phrase, words) => {
        let at = 0;
        for (const piece of pieces) {
            const found = phrase.indexOf(piece, at);
            if (found < 0 || at === 0 && isWord(piece[0]) && isWord(phrase[found - 1])) return 0;
            at = found + piece.length;
        }
        const whole = !isWord(phrase[at - 1]) || !isWord(phrase[at]);
        const letters = pieces.join(" ");
        return whole && (!words || /.\s.*\s.|^(?!the )\S+\s/.test(letters)) ? letters.length : 0;
    };

    // The words of a text as questions are compared: without endings, and HTTP/2 is one word, as is `h2`.
    const spellings = [
        [/http\/?1(\.[01x])?|\bh1\b/giu, " httpone "], [/http\/?2(\.0)?|\bh2\b/giu, " httptwo "],
        [/keep[- _]alive/giu, "keepalive"], [/time[- ]out/giu, "timeout"], [/web[- ]socket/giu, "websocket"], [/(?<=\w)['’]\w+/gu, ""],
    ];
    const stem = (word) => {
        if (word.length < 4) return word;
        const one = word.replace(/(?<=..)ie[sd]$/u, "y").replace(/(?<=[^s])s$/u, "");
        const short = one.length > 5 ? one.replace(/(ing|ed|er|ly|ion)$/u, "") : one;
        const single = short === word ? short : short.replace(/([bdfgmnprt])\1$/u, "$1");
        return (single.length > 3 ? single.replace(/e$/u, "") : single).replace(/y$/u, "i");
    };
    const wordsOf = (text) => partsOf(spellings.reduce((text, [from, to]) => text.replace(from, to), text)).map(stem);
    const idle = new Set(wordsOf("a an and are as at be but by can did do does doesn don for from get had has have how i if in is isn it its "
        + "my no not of on or should so that the there this to was we were what when why will with won would you"));

    // What the questions are compared with, made anew when the texts come: of each section how often each word stands in its title, its page's
    // and its prose, and the phrases that it may be asked for by, which are its title and each of its other words.
    let index;
    const indexed = () => {
        const counted = (words) => words.reduce((counts, word) => counts.set(word, (counts.get(word) ?? 0) + 1), new Map());
        const entries = sections.map(({ path, address, title, page, texts: [prose, , , also] }) => {
            const phrases = [title, ...(also?.text.split(";") ?? [])].map((phrase) => new Set(wordsOf(phrase)));
            const fields = [prose?.text ?? "", title, page].map(wordsOf);
            const all = new Set([...fields.flat(), ...phrases.flatMap((phrase) => [...phrase])]);
            return { phrases, fields: fields.map((words) => ({ length: words.length, counts: counted(words) })), all };
        });
        const known = new Map();
        for (const { all } of entries) for (const word of all) known.set(word, (known.get(word) ?? 0) + 1);
        const mean = (of) => entries.reduce((sum, entry) => sum + of(entry), 0) / entries.length || 1;
        const weigh = (word) => (known.has(word) ? Math.log(1 + (entries.length - known.get(word) + 0.5) / (known.get(word) + 0.5)) : 0);
        const sum = (words) => [...words].reduce((sum, word) => sum + weigh(word), 0);
        return { entries, weigh, sum, means: [0, 1, 2].map((field) => mean(({ fields }) => fields[field].length)) };
    };

    // The sections that are nearest to a question: BM25 over prose, title and page, what part of the question they have at all, and
    // how well their best phrase matches it. The weights are those that found most of 300 questions from issue trackers, each
    // quarter of which was ranked with what the others had taught. An introduction, and a table that has everything, says less than a section.
    const nearest = (words) => {
        index ??= indexed();
        const { entries, weigh, sum, means } = index;
        const asked = [...new Set(wordsOf(words.map(({ typed }) => typed).join(" ")))].filter((word) => weigh(word) > 0);
        const terms = asked.filter((word) => !idle.has(word));
        const all = sum(terms);
        const near = (section, { phrases, fields, all: here }) => {
            const there = terms.filter((word) => here.has(word));
            const part = sum(there) / all;
            if (there.length < 2 || part < 0.25) return 0;
            const bm25 = ({ length, counts }, field) => there.reduce((total, word) => {
                const count = counts.get(word) ?? 0;
                return total + weigh(word) * count * 2.2 / (count + 0.3 + 0.9 * length / means[field]);
            }, 0) / all;
            const [prose, title, page] = fields.map(bm25);
            const phrase = Math.max(...phrases.map((phrase) => {
                const common = sum(there.filter((word) => phrase.has(word)));
                return common && common / Math.sqrt(all * sum(phrase));
            }));
            const general = (section.address === section.path ? 2.8 : 0) + (/^reference\/(?!errors)|names\.html/u.test(section.path) ? 2 : 0);
            return Math.max(0.01, 2.4 * prose + 3 * title + 2.8 * page + 7.6 * phrase + 5.5 * part - general);
        };
        return sections.map((section, number) => ({ section, score: near(section, entries[number]) }))
            .filter(({ score }) => score > 0).sort((a, b) => b.score - a.score);
    };

    const few = 3;

    const find = (query) => {
        const words = query.split(/\s+/).filter(Boolean).map((word) => ({ typed: word, whole: lowered(word), parts: partsOf(word) }));
        if (words.length === 0) return [];
        const phrase = words.map((word) => word.whole).join(" ");
        const marks = [...new Set([phrase, ...words.flatMap((word) => [word.whole, ...word.parts])])];
        marks.sort((a, b) => b.length - a.length);
        const found = sections
            .map((section) => ({ section, words: marks, score: score(section, words, phrase) }))
            .filter((result) => result.score > 0)
            .sort((a, b) => b.score - a.score);
        let results = found;
        if (words.length > 3 || found.length < few && words.length > 1) {
            const near = nearest(words).map((result) => ({ ...result, words: marks }));
            // Of those that are pasted in the same way, the one that the rest of the words is about.
            const place = ({ section }) => (near.findIndex((result) => result.section === section) + 1 || Infinity);
            const sure = found.filter(({ section }) => titleIn(section, phrase) > 0 || fields(section).some(({ lower, kind }) => kind === "prose" && lower.includes(phrase)))
                .sort((a, b) => titleIn(b.section, phrase) - titleIn(a.section, phrase) || place(a) - place(b));
            const seen = new Set();
            results = [...sure, ...near.slice(0, 2 * few), ...found].filter(({ section }) => !seen.has(section) && seen.add(section));
        }
        // The first twenty, and of each page that is not among them the best section.
        const pages = new Set();
        return results.filter(({ section }, rank) => {
            const first = !pages.has(section.path);
            pages.add(section.path);
            return rank < 20 || first;
        });
    };

    // Adds the text to the element, with the words marked.
    const addMarked = (element, text, words) => {
        const pattern = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
        for (const [number, part] of text.split(new RegExp(`(${pattern.join("|")})`, "giu")).entries()) {
            if (number % 2) element.append(Object.assign(document.createElement("mark"), { textContent: part }));
            else element.append(part);
        }
    };

    // The place of the longest hit, in the field that says most of the query.
    const excerpt = (section, words) => {
        const said = ({ lower }) => words.filter((word) => lower.includes(word)).join("").length;
        const { text, lower, kind } = section.texts.filter(({ kind }) => kind !== "also").toSorted((a, b) => said(b) - said(a))[0] ?? field(0);
        const at = Math.max(0, lower.indexOf(words.find((word) => lower.includes(word))));
        if (kind === "names") return { text: text.split(" ").filter((name) => words.some((word) => name.toLowerCase().includes(word))).join(" "), code: true };
        if (kind === "code") return { text: text.slice(text.lastIndexOf("\n", at) + 1).split("\n")[0].trim(), code: true };
        const sentence = text.lastIndexOf(". ", at);
        const start = sentence >= 0 && at - sentence < 80 ? sentence + 2 : text.indexOf(" ", Math.max(0, at - 50)) + 1;
        const from = at < 60 ? 0 : Math.min(start, at);
        const cut = text.slice(from, from + 150);
        return { text: `${from > 0 ? "… " : ""}${cut}${from + 150 < text.length ? " …" : ""}`, code: false };
    };

    const dialog = document.getElementById("search");
    const input = document.getElementById("search-input");
    const status = document.getElementById("search-status");
    const results = document.getElementById("search-results");

    const show = () => {
        const found = find(input.value);
        // A reader who has gone down to a result stays on it when the texts come.
        const marked = results.contains(document.activeElement) ? document.activeElement.href : null;
        results.replaceChildren(...found.map(({ section, words }) => {
            const link = document.createElement("a");
            link.href = dialog.dataset.root + section.address;
            addMarked(link.appendChild(document.createElement("b")), section.title, words);
            if (section.title !== section.page) {
                link.append(" ", Object.assign(document.createElement("small"), { textContent: section.page }));
            }
            const { text, code } = excerpt(section, words);
            const line = link.appendChild(document.createElement("span"));
            line.className = code ? "in-code" : "";
            addMarked(line, text, words);
            const item = document.createElement("li");
            item.append(link);
            return item;
        }));
        results.scrollTop = 0;
        if (marked) ([...results.querySelectorAll("a")].find((link) => link.href === marked) ?? input).focus();
        // Titles answer before the texts have come: what they find is not all.
        const complete = sections[0].texts.length > 0;
        results.ariaBusy = String(!complete && input.value !== "");
        const none = complete ? "Nothing found" : "Searching …";
        const some = (found.length === 1 ? "1 section" : `${found.length} sections`) + (complete ? "" : ", searching …");
        status.textContent = input.value.trim() === "" ? "Words, names from code, error messages" : found.length ? some : none;
    };

    searchTexts = (texts) => {
        index = undefined;
        for (const [number, [prose, code, names, also]] of texts.entries()) {
            // What reference/errors.md says that `{:?}` prints.
            const forms = [...(prose ?? "").toLowerCase().matchAll(/with \{:\?\}: (hyper::error\(.*?\))\.(?=\s|$)/g)];
            sections[number].forms = forms.map(([, form]) => form.split("…").map((piece) => piece.trim()));
            sections[number].texts = [field(8, prose), field(5, code, "code"), field(2, names, "names"), field(8, also, "also")];
        }
        show();
    };
    const loadTexts = () => {
        if (dialog.dataset.texts) loadScript(dialog.dataset.texts);
        delete dialog.dataset.texts;
    };

    input.addEventListener("input", () => {
        loadTexts();
        show();
    });
    dialog.addEventListener("keydown", (event) => {
        const links = [...results.querySelectorAll("a")];
        const at = links.indexOf(document.activeElement);
        if (event.key === "ArrowDown" || event.key === "ArrowUp") {
            event.preventDefault();
            const next = at + (event.key === "ArrowDown" ? 1 : -1);
            (next < 0 ? input : links[Math.min(next, links.length - 1)])?.focus();
        } else if (event.key === "Escape") {
            // Browsers would only empty the input.
            event.preventDefault();
            dialog.close();
        } else if (event.key === "Enter" && event.target === input) {
            event.preventDefault();
            links[0]?.click();
        }
    });
    // A section of this very page: nothing is loaded, so the dialog must go by itself.
    results.addEventListener("click", (event) => {
        if (event.target.closest("a") && !event.ctrlKey && !event.metaKey) dialog.close();
    });
    dialog.addEventListener("click", (event) => {
        if (event.target === dialog) dialog.close();
    });
    if (input.value) loadTexts();
    show();
})();
