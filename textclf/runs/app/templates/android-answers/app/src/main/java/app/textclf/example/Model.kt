package app.textclf.example

import android.content.Context
import org.tensorflow.lite.task.text.qa.BertQuestionAnswerer

/** The question answering model in the assets. Not for use by several threads at once. */
class Model(context: Context) : AutoCloseable {
    private val answerer = BertQuestionAnswerer.createFromFile(context, "model.tflite")

    /** Returns the best answer in a text, or null if no words of it are an answer or one of the two is empty. */
    fun answer(question: String, text: String): String? {
        if (question.isBlank() || text.isBlank()) return null
        return answerer.answer(text, question).firstOrNull()?.text
    }

    /** Returns what the example shows. */
    fun describe(texts: List<String>): String = answer(texts[0], texts[1]) ?: "no answer"

    override fun close() = answerer.close()

    companion object {
        val FIELDS = listOf("Question", "Text")
        const val ACTION = "Answer"
    }
}
