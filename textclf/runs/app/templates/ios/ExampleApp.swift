import SwiftUI

@main
struct ExampleApp: App {
    var body: some Scene {
        WindowGroup { ContentView() }
    }
}

/// Shows what the model makes of a text. The model is opened and used on one queue of its own.
struct ContentView: View {
    @State private var texts = Model.fields.map { _ in "" }
    @State private var shown = ""

    private static let queue = DispatchQueue(label: "model")
    private static let model = Result { try Model() }

    var body: some View {
        ScrollView {
            VStack(alignment: .leading, spacing: 12) {
                ForEach(Model.fields.indices, id: \.self) { place in
                    TextField(Model.fields[place], text: $texts[place])
                        .textFieldStyle(.roundedBorder)
                }
                Button(Model.action) { compute() }
                Text(shown)
            }
            .padding()
        }
    }

    private func compute() {
        let given = texts
        Self.queue.async {
            let result: String
            do {
                result = try Self.model.get().describe(given)
            } catch {
                result = "The model cannot be used: \(error.localizedDescription)"
            }
            DispatchQueue.main.async { shown = result }
        }
    }
}
