// The search: loaded when it is first opened, after the index (a script that sets `searchIndex`).
//
// A section is found if each word of the query stands in it, or in its title or its page's. Words
// are looked for within longer ones too, so an identifier is found by its whole name and by each
// of its parts. Titles count most, then prose, then code, then names in lines that are hidden.
"use strict";

(() => {
    const sections = searchIndex.flatMap(([path, page, parts]) => parts.map(([id, title, prose, code, hidden], number) => ({
        address: number === 0 ? path : `${path}#${id}`,
        page,
        title,
        fields: [
            { weight: number === 0 ? 90 : 60, text: title },
            { weight: 12, text: number === 0 ? "" : page },
            { weight: 8, text: prose },
            { weight: 5, text: code, code: true },
            { weight: 2, text: hidden, code: true, unseen: true },
        ].map((field) => ({ ...field, lower: field.text.toLowerCase() })),
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

    const score = (section, words, phrase) => {
        let total = 0;
        for (const word of words) {
            let best = 0;
            for (const field of section.fields) best = Math.max(best, field.weight * match(field.lower, word));
            if (best === 0) return 0;
            total += best;
        }
        if (words.length > 1) {
            for (const field of section.fields) if (field.lower.includes(phrase)) total += 10 * field.weight;
        }
        return total;
    };

    const find = (query) => {
        const phrase = query.toLowerCase().trim().replace(/\s+/g, " ");
        const split = (pattern) => phrase.split(pattern).filter(Boolean);
        // What is typed from code: first as it is, then by the names in it, then by their parts.
        for (const pattern of [/ /, /[^\p{L}\p{N}_]+/u, /[^\p{L}\p{N}]+/u]) {
            const words = split(pattern);
            if (words.length === 0) continue;
            const found = sections
                .map((section) => ({ section, words, score: score(section, words, phrase) }))
                .filter((result) => result.score > 0)
                .sort((a, b) => b.score - a.score);
            if (found.length > 0) return found.slice(0, 20);
        }
        return [];
    };

    // Adds the text to the element, with the words marked.
    const addMarked = (element, text, words) => {
        const pattern = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).sort((a, b) => b.length - a.length);
        for (const [number, part] of text.split(new RegExp(`(${pattern.join("|")})`, "giu")).entries()) {
            if (number % 2) element.append(Object.assign(document.createElement("mark"), { textContent: part }));
            else element.append(part);
        }
    };

    // The place of the first hit, in the best field that says more than the title.
    const excerpt = (section, words) => {
        const [, , prose, code, hidden] = section.fields;
        let best, most = 0;
        for (const field of [prose, code, hidden]) {
            const count = words.filter((word) => field.lower.includes(word)).length;
            if (count > most) [best, most] = [field, count];
        }
        if (best === undefined) return { text: prose.text.slice(0, 140), code: false };
        const at = Math.min(...words.map((word) => best.lower.indexOf(word)).filter((at) => at >= 0));
        if (best.unseen) {
            return { text: best.text.split(" ").filter((name) => words.some((word) => name.toLowerCase().includes(word))).join(" "), code: true };
        }
        if (best.code) {
            const start = best.text.lastIndexOf("\n", at) + 1;
            const end = best.text.indexOf("\n", at);
            return { text: best.text.slice(start, end < 0 ? undefined : end).trim(), code: true };
        }
        const sentence = best.text.lastIndexOf(". ", at);
        const start = sentence >= 0 && at - sentence < 80 ? sentence + 2 : best.text.indexOf(" ", Math.max(0, at - 50)) + 1;
        const from = at < 60 ? 0 : Math.min(start, at);
        const text = best.text.slice(from, from + 150);
        return { text: `${from > 0 ? "… " : ""}${text}${from + 150 < best.text.length ? " …" : ""}`, code: false };
    };

    const dialog = document.getElementById("search");
    const input = document.getElementById("search-input");
    const status = document.getElementById("search-status");
    const results = document.getElementById("search-results");

    const show = () => {
        const found = find(input.value);
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
        const some = found.length === 1 ? "1 section" : `${found.length} sections`;
        status.textContent = input.value.trim() === "" ? "Words, names from code, error messages" : found.length ? some : "Nothing found";
    };

    input.addEventListener("input", show);
    dialog.addEventListener("keydown", (event) => {
        const links = [...results.querySelectorAll("a")];
        const at = links.indexOf(document.activeElement);
        if (event.key === "ArrowDown" || event.key === "ArrowUp") {
            event.preventDefault();
            const next = at + (event.key === "ArrowDown" ? 1 : -1);
            (next < 0 ? input : links[Math.min(next, links.length - 1)])?.focus();
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
    show();
})();
