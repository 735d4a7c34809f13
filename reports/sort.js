/* Tables of class "sortable": a button in each header sorts the rows by that column. Numbers start with the largest, words with A;
 * the second press turns the order round, the third restores it. Rows without a value ("–") stay last. */
(function () {
  'use strict';
  var words = new Intl.Collator('en', { numeric: true, sensitivity: 'base' }); // layer10 after layer2

  function value(row, column, number) {
    var text = row.cells[column].textContent.trim();
    if (text === '–') return null;
    if (!number) return text;
    var v = parseFloat(text);
    return isNaN(v) ? null : v;
  }

  function order(rows, column, number, sign) {
    return rows.map(function (row) { return { row: row, value: value(row, column, number) }; }).sort(function (a, b) { // stable
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
      return sign * (number ? a.value - b.value : words.compare(a.value, b.value));
    }).map(function (x) { return x.row; });
  }

  function start(table) {
    var body = table.tBodies[0], rows = Array.from(body.rows), heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      var button = document.createElement('button'), number = head.classList.contains('n');
      var turns = number ? ['descending', 'ascending', null] : ['ascending', 'descending', null];
      button.type = 'button';
      button.append.apply(button, Array.from(head.childNodes));
      head.append(button);
      button.addEventListener('click', function () {
        var next = turns[(turns.indexOf(head.getAttribute('aria-sort')) + 1) % 3];
        heads.forEach(function (other) { other.removeAttribute('aria-sort'); });
        if (next) head.setAttribute('aria-sort', next);
        body.append.apply(body, next ? order(rows, column, number, next === 'ascending' ? 1 : -1) : rows);
      });
    });
  }

  Array.from(document.querySelectorAll('table.sortable')).forEach(start);
})();
