import Foundation
import MediaPipeTasksText

/// What textclf knows of the model.
struct ModelSettings: Decodable {
    let labels: [String]
    let thresholds: [Float]?
    let rejectBelow: Float
    let rejectLabel: String
}

/// The labels of a text: none, one or several. `rejected`: no probability reaches the bound of the model.
struct Labels {
    let labels: [String]
    let rejected: Bool
    let scores: [String: Float]
}

enum ModelError: Error {
    case missing(String)
}

/// The model in the app's bundle, with the thresholds in model_settings.json. Not for use by several threads at once.
final class Model {
    static let fields = ["Text"]
    static let action = "Classify"

    private let settings: ModelSettings
    private let classifier: TextClassifier

    init(bundle: Bundle = .main) throws {
        guard let file = bundle.url(forResource: "model_settings", withExtension: "json") else {
            throw ModelError.missing("model_settings.json")
        }
        guard let model = bundle.path(forResource: "model", ofType: "tflite") else {
            throw ModelError.missing("model.tflite")
        }
        settings = try JSONDecoder().decode(ModelSettings.self, from: Data(contentsOf: file))
        let options = TextClassifierOptions()
        options.baseOptions.modelAssetPath = model
        classifier = try TextClassifier(options: options)
    }

    /// Returns the labels of a text, or nil for an empty one.
    func classify(_ text: String) throws -> Labels? {
        if text.trimmingCharacters(in: .whitespacesAndNewlines).isEmpty { return nil }
        let result = try classifier.classify(text: text)
        let categories = result.classificationResult.classifications.first?.categories ?? []
        var scores: [String: Float] = [:]
        for category in categories { scores[category.categoryName ?? ""] = category.score }
        let ordered = settings.labels.map { scores[$0] ?? 0 }
        if let thresholds = settings.thresholds {
            let chosen = settings.labels.indices.filter { ordered[$0] >= thresholds[$0] }.map { settings.labels[$0] }
            return Labels(labels: chosen, rejected: false, scores: scores)
        }
        guard let highest = ordered.max(), let best = ordered.firstIndex(of: highest) else { return nil }
        let rejected = highest < settings.rejectBelow
        let label = rejected ? settings.rejectLabel : settings.labels[best]
        return Labels(labels: label.isEmpty ? [] : [label], rejected: rejected, scores: scores)
    }

    /// Returns what the example shows.
    func describe(_ texts: [String]) throws -> String {
        guard let result = try classify(texts[0]) else { return "" }
        let highest = result.scores.sorted { $0.value > $1.value }.prefix(8)
        let lines = highest.map { String(format: "%.1f %%  ", 100 * $0.value) + $0.key }
        let chosen = result.labels.isEmpty ? "no label" : result.labels.joined(separator: ", ")
        return ([chosen] + lines).joined(separator: "\n")
    }
}
