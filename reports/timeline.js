/* Timelines (svg.tl, drawn by timeline.c): one pixel a unit whatever the width, zoom and pan in time. Without this script they are pictures.
 * The spans lie in the inner svg "plot", whose viewBox is the window of time shown, in microseconds; all else is laid out again. */
(function () {
  'use strict';
  var NS = 'http://www.w3.org/2000/svg', LETTER = 6.2, RIGHT = 12, ROW = 20, LEAST_US = 1;

  function start(svg) {
    function one(name) { return svg.querySelector('.' + name); }
    var plot = one('plot'), axis = one('axis'), labels = one('labels'), body = one('body'), unit = one('unit'), hint = one('hint');
    var step = +svg.getAttribute('data-us'), left = +plot.getAttribute('x'), high = +plot.getAttribute('height'), below = +svg.getAttribute('data-below');
    var alone = svg === document.documentElement, from = 0, size = step, width = 0, room = 0, waiting = false, down = new Map();
    var spans = Array.from(plot.querySelectorAll('rect')).map(function (r) {
      function number(name) { return +r.getAttribute(name); }
      return { x: number('x'), w: number('width'), y: number('y') + number('height') / 2, kind: r.getAttribute('class').split(' ')[0],
               name: r.textContent.split('\n')[0], label: null };
    });

    function add(parent, name, values) {
      var e = document.createElementNS(NS, name);
      Object.keys(values).forEach(function (key) { e.setAttribute(key, values[key]); });
      return parent.appendChild(e);
    }

    function ticks() {
      var rough = size / Math.max(2, room / 95), power = Math.pow(10, Math.floor(Math.log10(rough)));
      var gap = power * [1, 2, 5, 10].find(function (m) { return m * power >= rough; });
      var places = Math.max(0, -Math.floor(Math.log10(gap / 1e3) + 1e-9));
      axis.textContent = '';
      for (var k = Math.ceil(from / gap - 1e-9); k * gap <= from + size * (1 + 1e-9); k++) {
        var x = left + (k * gap - from) / size * room;
        add(axis, 'line', { x1: x, x2: x, y1: 0, y2: high });
        add(axis, 'text', { x: x, y: high + 16 }).textContent = (k * gap / 1e3).toFixed(places);
      }
    }

    /* A name where the visible part of its span has room for it, or for its beginning. */
    function name(s) {
      var a = Math.max(0, (s.x - from) / size * room), b = Math.min(room, (s.x + s.w - from) / size * room), fits = Math.floor((b - a - 6) / LETTER);
      var text = fits >= s.name.length ? s.name : fits >= 5 ? s.name.slice(0, fits - 1) + '…' : '';
      if (!text) {
        if (s.label) s.label.setAttribute('visibility', 'hidden');
        return;
      }
      if (!s.label) s.label = add(labels, 'text', { 'class': s.kind, y: s.y + 4 });
      s.label.setAttribute('visibility', 'visible');
      s.label.setAttribute('x', left + (a + b) / 2);
      if (s.label.textContent !== text) s.label.textContent = text;
    }

    function draw() {
      waiting = false;
      plot.setAttribute('viewBox', from + ' 0 ' + size + ' ' + high);
      ticks();
      spans.forEach(name);
    }

    function soon() {
      if (!waiting) requestAnimationFrame(draw);
      waiting = true;
    }

    /* Shows [begin, begin + length], kept inside the step. */
    function show(begin, length) {
      size = length > step * 0.9999 ? step : Math.max(LEAST_US, length);
      from = Math.min(step - size, Math.max(0, begin));
      soon();
    }

    function time(clientX) { return from + (clientX - svg.getBoundingClientRect().left - left) / room * size; }
    function zoom(at, factor) {
      var length = Math.min(step, Math.max(LEAST_US, size * factor));
      show(at - (at - from) / size * length, length);
    }

    function layout() {
      var w = Math.floor(svg.getBoundingClientRect().width), x = 0, row = 0;
      if (w < left + 60 || w === width) return;
      width = w;
      room = w - left - RIGHT;
      Array.from(svg.querySelectorAll('.key > g')).forEach(function (item) {
        var long = +item.getAttribute('data-width');
        if (x && x + long > w) { x = 0; row++; }
        item.setAttribute('transform', 'translate(' + x + ',' + row * ROW + ')');
        x += long;
      });
      body.setAttribute('transform', 'translate(0,' + ((row + 1) * ROW + 8) + ')');
      plot.setAttribute('width', room);
      Array.from(svg.querySelectorAll('.band')).forEach(function (band) { band.setAttribute('width', room); });
      [unit, hint].forEach(function (text) { text.setAttribute('x', left + room / 2); });
      var tall = (row + 1) * ROW + 8 + high + below;
      svg.setAttribute('viewBox', '0 0 ' + w + ' ' + tall);
      svg.setAttribute('width', alone ? '100%' : w); // both: their ratio counts
      svg.setAttribute('height', tall);
      soon();
    }

    svg.addEventListener('wheel', function (e) {
      var unit = e.deltaMode ? 16 : 1, sideways = Math.abs(e.deltaX) > Math.abs(e.deltaY);
      if (size >= step && (sideways || e.deltaY > 0)) return; // nothing to do here: the page scrolls
      e.preventDefault();
      if (sideways) show(from + e.deltaX * unit / room * size, size);
      else zoom(time(e.clientX), Math.exp(e.deltaY * unit * 0.002));
    }, { passive: false });

    svg.addEventListener('pointerdown', function (e) {
      if (e.button) return;
      down.set(e.pointerId, e.clientX);
      svg.setPointerCapture(e.pointerId);
    });
    svg.addEventListener('pointermove', function (e) {
      if (!down.has(e.pointerId)) return;
      var other = Array.from(down.entries()).find(function (p) { return p[0] !== e.pointerId; }), last = down.get(e.pointerId);
      down.set(e.pointerId, e.clientX);
      if (!other) show(from - (e.clientX - last) / room * size, size);
      else zoom(time(other[1]), Math.abs(last - other[1]) / Math.max(8, Math.abs(e.clientX - other[1])));
    });
    ['pointerup', 'pointercancel'].forEach(function (name) {
      svg.addEventListener(name, function (e) { down.delete(e.pointerId); });
    });
    svg.addEventListener('dblclick', function () { show(0, step); });

    var keys = {
      '+': function () { zoom(from + size / 2, 1 / 1.5); }, '-': function () { zoom(from + size / 2, 1.5); },
      ArrowLeft: function () { show(from - size / 8, size); }, ArrowRight: function () { show(from + size / 8, size); },
      '0': function () { show(0, step); }
    };
    keys['='] = keys['+'];
    svg.addEventListener('keydown', function (e) {
      if (e.ctrlKey || e.metaKey || e.altKey || !Object.prototype.hasOwnProperty.call(keys, e.key)) return;
      e.preventDefault();
      keys[e.key]();
    });

    if (alone) svg.setAttribute('width', '100%');
    svg.setAttribute('tabindex', '0');
    svg.style.minWidth = '0';
    svg.style.cursor = 'grab';
    svg.style.touchAction = 'pan-y';
    hint.textContent = 'wheel, + −: zoom · drag, ← →: move · 0: all';
    labels.textContent = '';
    layout();
    if (window.ResizeObserver) new ResizeObserver(layout).observe(svg);
    else window.addEventListener('resize', layout);
  }

  Array.from(document.querySelectorAll('svg.tl')).forEach(start);
})();
