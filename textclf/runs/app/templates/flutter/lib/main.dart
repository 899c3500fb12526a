import 'package:flutter/material.dart';

import 'model.dart';

void main() => runApp(const ExampleApp());

/// Shows what the model makes of a text.
class ExampleApp extends StatelessWidget {
  const ExampleApp({super.key});

  @override
  Widget build(BuildContext context) => const MaterialApp(home: ExamplePage());
}

class ExamplePage extends StatefulWidget {
  const ExamplePage({super.key});

  @override
  State<ExamplePage> createState() => _ExamplePageState();
}

class _ExamplePageState extends State<ExamplePage> {
  Model? _model;
  List<TextEditingController> _fields = [];
  String _shown = 'Loading the model …';

  @override
  void initState() {
    super.initState();
    Model.open().then((model) {
      setState(() {
        _model = model;
        _fields = [for (final _ in model.columns) TextEditingController()];
        _shown = '';
      });
    }).catchError((Object error) {
      setState(() => _shown = 'The model cannot be used: $error');
    });
  }

  @override
  void dispose() {
    for (final field in _fields) {
      field.dispose();
    }
    _model?.close();
    super.dispose();
  }

  void _classify() {
    final result = _model!.classify([for (final field in _fields) field.text]);
    setState(() => _shown = result == null ? '' : result.describe());
  }

  @override
  Widget build(BuildContext context) {
    final model = _model;
    return Scaffold(
      appBar: AppBar(title: Text(model?.name ?? 'textclf')),
      body: ListView(
        padding: const EdgeInsets.all(16),
        children: [
          if (model != null)
            for (var place = 0; place < _fields.length; place++)
              TextField(
                controller: _fields[place],
                maxLines: null,
                decoration: InputDecoration(labelText: model.columns[place]),
              ),
          if (model != null)
            Padding(
              padding: const EdgeInsets.symmetric(vertical: 16),
              child: FilledButton(onPressed: _classify, child: const Text('Classify')),
            ),
          Text(_shown),
        ],
      ),
    );
  }
}
