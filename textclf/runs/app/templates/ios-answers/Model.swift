import Foundation
import TensorFlowLiteTaskText

enum ModelError: Error {
    case missing(String)
}

/// The question answering model in the app's bundle. Not for use by several threads at once.
final class Model {
    static let fields = ["Question", "Text"]
    static let action = "Answer"

    private let answerer: TFLBertQuestionAnswerer

    init(bundle: Bundle = .main) throws {
        guard let model = bundle.path(forResource: "model", ofType: "tflite") else {
            throw ModelError.missing("model.tflite")
        }
        answerer = TFLBertQuestionAnswerer.questionAnswerer(modelPath: model)
    }

    /// Returns the best answer in a text, or nil if no words of it are an answer or one of the two is empty.
    func answer(_ question: String, in text: String) -> String? {
        let empty = [question, text].contains { $0.trimmingCharacters(in: .whitespacesAndNewlines).isEmpty }
        return empty ? nil : answerer.answer(context: text, question: question).first?.text
    }

    /// Returns what the example shows.
    func describe(_ texts: [String]) throws -> String {
        answer(texts[0], in: texts[1]) ?? "no answer"
    }
}
