import 'dart:convert';
import 'dart:math';
import 'dart:typed_data';

import 'package:flutter/services.dart';
import 'package:tflite_flutter/tflite_flutter.dart';

/// The labels of a text: none, one or several. `rejected`: no probability reaches the bound of the model.
class Labels {
  Labels(this.labels, this.scores, {required this.rejected});

  final List<String> labels;
  final Map<String, double> scores;
  final bool rejected;

  /// What the example shows.
  String describe() {
    final order = scores.entries.toList()..sort((a, b) => b.value.compareTo(a.value));
    final lines = order.take(8).map((one) => '${(100 * one.value).toStringAsFixed(1)} %  ${one.key}');
    return [labels.isEmpty ? 'no label' : labels.join(', '), ...lines].join('\n');
  }
}

/// The model in the assets. Texts become tokens as on phones: only ASCII letters are folded.
class Model {
  Model._(this._settings, this._interpreter) : _tokenizer = _Tokenizer(_settings['tokenizer'] as Map<String, dynamic>);

  final Map<String, dynamic> _settings;
  final Interpreter _interpreter;
  final _Tokenizer _tokenizer;

  static Future<Model> open() async {
    final settings = jsonDecode(await rootBundle.loadString('assets/model_settings.json')) as Map<String, dynamic>;
    return Model._(settings, await Interpreter.fromAsset('assets/model.tflite'));
  }

  String get name => _settings['name'] as String;

  List<String> get columns => (_settings['columns'] as List).cast<String>();

  List<String> get labels => (_settings['labels'] as List).cast<String>();

  int get _length => _settings['maxLength'] as int;

  void close() => _interpreter.close();

  /// Takes one text, or the two of a pair. Returns null if all are empty.
  Labels? classify(List<String> texts) {
    if (texts.every((text) => text.trim().isEmpty)) return null;
    final outputs = _rows([for (final text in texts) _tokenizer.ids(text)]).map(_run).toList();
    final scores = outputs.length == 1 ? outputs.single : _combined(outputs);
    final byLabel = Map<String, double>.fromIterables(labels, scores);
    final thresholds = _settings['thresholds'] as List?;
    if (thresholds != null) {
      final chosen = [
        for (var place = 0; place < labels.length; place++)
          if (scores[place] >= _float(thresholds[place] as num)) labels[place]
      ];
      return Labels(chosen, byLabel, rejected: false);
    }
    final highest = scores.reduce(max);
    final rejected = highest < _float(_settings['rejectBelow'] as num);
    final label = rejected ? _settings['rejectLabel'] as String : labels[scores.indexOf(highest)];
    return Labels([if (label.isNotEmpty) label], byLabel, rejected: rejected);
  }

  /// A number as the outputs of the model are stored.
  static double _float(num value) => Float32List.fromList([value.toDouble()])[0];

  /// The softmax of the mean logits of the windows of a long text.
  static List<double> _combined(List<List<double>> outputs) {
    final logits = [
      for (var label = 0; label < outputs[0].length; label++)
        outputs.map((scores) => log(max(scores[label], 1.17549435e-38))).reduce((a, b) => a + b) / outputs.length
    ];
    final powers = logits.map((logit) => exp(logit - logits.reduce(max))).toList();
    final sum = powers.reduce((a, b) => a + b);
    return [for (final power in powers) power / sum];
  }

  /// The rows that the model reads: their ids, and where the second text begins.
  List<(List<int>, int)> _rows(List<List<int>> tokens) {
    final start = _tokenizer.start, end = _tokenizer.end;
    final room = _length - start.length - tokens.length * end.length;
    if (tokens.length == 2) {
      // The longer text loses tokens until both fit.
      final second = min(tokens[1].length, max(room ~/ 2, room - tokens[0].length));
      final first = [...start, ..._kept(tokens[0], room - second), ...end];
      return [([...first, ..._kept(tokens[1], second), ...end], first.length)];
    }
    final own = tokens[0];
    final windows = _settings['windows'] as Map<String, dynamic>?;
    if (windows == null) return [([...start, ..._kept(own, room), ...end], _length)];
    final step = min(room, windows['stride'] as int);
    final readable = min(own.length, room + ((windows['most'] as int) - 1) * step);
    final rows = <(List<int>, int)>[];
    var begin = 0;
    while (true) {
      final stop = min(readable, begin + room);
      rows.add(([...start, ...own.sublist(begin, stop), ...end], _length));
      if (stop == readable) return rows;
      begin += step;
    }
  }

  /// At most `count` of the tokens.
  List<int> _kept(List<int> tokens, int count) {
    if (tokens.length <= count) return tokens;
    final head = switch (_settings['overflow']) { 'tail' => 0, 'head_tail' => count ~/ 4, _ => count };
    return [...tokens.take(head), ...tokens.skip(tokens.length - (count - head))];
  }

  List<double> _run((List<int>, int) row) {
    final (ids, second) = row;
    final values = {
      'mask': [for (var place = 0; place < _length; place++) place < ids.length ? 1 : 0],
      'segment_ids': [for (var place = 0; place < _length; place++) place >= second && place < ids.length ? 1 : 0],
    };
    final padded = [for (var place = 0; place < _length; place++) place < ids.length ? ids[place] : _tokenizer.padding];
    final names = (_settings['inputs'] as List).cast<String>();
    final tensors = _interpreter.getOutputTensors();
    final outputs = <int, List<List<double>>>{
      for (var place = 0; place < tensors.length; place++) place: [List.filled(tensors[place].shape.last, 0.0)]
    };
    _interpreter.runForMultipleInputs([
      for (final name in names) [values[name] ?? padded]
    ], outputs);
    return outputs[(_settings['outputs'] as List).single as int]![0];
  }
}

/// Texts as token ids: words between delimiters, and pieces of them unless the vocabulary has whole words.
class _Tokenizer {
  _Tokenizer(Map<String, dynamic> facts) : _isRegex = facts['kind'] == 'regex' {
    final vocabulary = (facts['vocabulary'] as List).cast<String>();
    for (final (id, piece) in vocabulary.indexed) {
      _ids[piece] = id;
      _longest = max(_longest, piece.length);
    }
    if (_isRegex) {
      _pattern = RegExp(facts['pattern'] as String, unicode: true);
    } else {
      String code(Object? point) => '\\u{${(point! as int).toRadixString(16)}}';
      final alone = [for (final range in facts['delimiters'] as List) '${code((range as List)[0])}-${code(range[1])}'].join();
      _pattern = RegExp('[$alone]|[^\\t\\n\\f\\r $alone]+', unicode: true);
    }
  }

  final bool _isRegex;
  final Map<String, int> _ids = {};
  late final RegExp _pattern;
  int _longest = 0;

  int get padding => _ids[_isRegex ? '<PAD>' : '[PAD]']!;

  List<int> get start {
    final id = _ids[_isRegex ? '<START>' : '[CLS]'];
    return [if (id != null) id];
  }

  List<int> get end => _isRegex ? const [] : [_ids['[SEP]']!];

  List<int> ids(String text) {
    final whole = utf8.decode(utf8.encode(text)).split('\u0000').first;
    if (_isRegex) {
      final words = whole.split(_pattern).where((word) => word.isNotEmpty);
      return [for (final word in words) _ids[word] ?? _ids['<UNKNOWN>']!];
    }
    final folded = whole.replaceAllMapped(RegExp('[A-Z]+'), (found) => found[0]!.toLowerCase());
    return [for (final found in _pattern.allMatches(folded)) ..._pieces(found[0]!)];
  }

  /// A word as the longest entries of the vocabulary.
  List<int> _pieces(String word) {
    final unknown = [_ids['[UNK]']!];
    if (utf8.encode(word).length > 100) return unknown;
    final pieces = <int>[];
    for (var begin = 0; begin < word.length;) {
      int? id;
      var end = min(word.length, begin + _longest);
      for (; end > begin; end--) {
        id = _ids[(begin > 0 ? '##' : '') + word.substring(begin, end)];
        if (id != null) break;
      }
      if (id == null) return unknown;
      pieces.add(id);
      begin = end;
    }
    return pieces;
  }
}
